"""Corpora of fetched samples, through the rules."""

import json
import re

import pandas as pd
import pytest

from models import write_model
from quern.corpus import conversations

from .conftest import CONFIG, House, build

PLUGIN = """
from quern.plugin_base import DataSourcePluginBase

class Letters(DataSourcePluginBase):
    schema = {"content": "body"}

    def load_data(self, lang, num_samples=200, skip_samples=0):
        letters = [{"body": f"A letter in {lang}, number {i}. " * 20} for i in range(400)]
        return letters[skip_samples : skip_samples + num_samples]
"""
MAIL = {
    "name": "mail",
    "kind": "plugin",
    "path": "input/letters.py",
    "class": "Letters",
    "languages": ["en", "de"],
    "samples": 50,
}
SET = {"name": "set", "kind": "dataset", "path": "input/set", "field": "turns.0.text"}
TARGET = "results/corpora/topics/corpus.json"


def config(*sources, **options):
    corpus = {"sources": list(sources), "evaluation_characters": 6000} | options
    return CONFIG | {"corpora": {"topics": corpus}}


@pytest.fixture
def house(tmp_path, texts, monkeypatch) -> House:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    house = build(tmp_path / "house")
    (house.folder / "input/set").mkdir(parents=True)
    (house.folder / "input/letters.py").write_text(PLUGIN)
    write_model(house.folder / "input/tiny.gguf")
    records = pd.DataFrame({"turns": [[{"text": text}] for text in texts[:30]]})
    records.to_parquet(house.folder / "input/set/train.parquet")
    house.configure(config(MAIL, SET))
    return house


def test_samples_are_fetched_once_and_added_to(house):
    assert house.run("samples") == {"fetch": 3, "samples": 1}
    assert house.run(TARGET) == {"corpus": 1}
    facts = json.loads((house.folder / TARGET).read_text())
    read = {label: entry["read"] for label, entry in facts["sources"].items()}
    assert read == {"mail/en": 50, "mail/de": 50, "set": 30}
    assert facts["languages"]["de"]["pool"]["documents"] > 0
    house.configure(config(MAIL | {"name": "post"}, SET))
    assert house.would_run(TARGET) == {}
    house.configure(config(MAIL | {"samples": 80}, SET))
    assert house.run(TARGET) == {"fetch": 2, "corpus": 1}
    english = sorted((house.folder / "results/raw").glob("letters-en-*/part-*.parquet"))
    assert [len(pd.read_parquet(part)) for part in english] == [50, 30]
    house.configure(config(MAIL, SET))
    assert house.would_run(TARGET) == {"corpus": 1}


def test_only_what_changed_is_fetched_again(house):
    house.run(TARGET)
    house.configure(config(MAIL, SET, seed=3))
    assert house.would_run(TARGET) == {"corpus": 1}
    plugin = house.folder / "input/letters.py"
    plugin.write_text(PLUGIN.replace("A letter", "A short letter"))
    assert house.would_run(TARGET) == {"fetch": 2, "corpus": 1}
    plugin.write_text(PLUGIN)
    texts = house.folder / "input/set/train.parquet"
    pd.read_parquet(texts)[:20].to_parquet(texts)
    assert house.run(TARGET) == {"fetch": 1, "corpus": 1}


def test_a_mixed_pool_in_random_windows(house):
    target = "results/tiny/tokens/topics.pool.json"
    sources = [MAIL | {"weight": 1}, SET | {"weight": 2}]
    house.configure(config(*sources, order="random-windows"))
    assert house.run(target) == {"fetch": 3, "corpus": 1, "model": 1, "tokens": 1}
    facts = json.loads((house.folder / target).read_text())
    table = pd.read_csv((house.folder / target).with_suffix(".csv"), index_col="source")
    tokens = table.tokens
    assert facts["mixed_windows"] == 64
    assert tokens["mail/en"] == pytest.approx(tokens["mail/de"], abs=64)
    assert tokens["set"] == pytest.approx(4 * tokens["mail/de"], abs=256)
    assert house.would_run(target) == {}
    changed = config(*sources, order="random-windows")
    house.configure(changed | {"imatrix": {"n_ctx": 32}})
    assert house.would_run(target) == {"tokens": 1}
    house.configure(config(sources[0], SET | {"weight": 3}, order="random-windows"))
    assert house.would_run(target) == {"corpus": 1, "tokens": 1}


def test_conversations_through_a_chat_template(house):
    turns = [
        [{"role": "user", "content": f"{i}?"}, {"role": "tool", "content": "x" * 300}]
        for i in range(60)
    ]
    pd.DataFrame({"turns": turns}).to_parquet(house.folder / "input/set/train.parquet")
    write_model(
        house.folder / "input/tiny.gguf",
        chat_template="{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}",
    )
    target = "results/tiny/tokens/topics.pool.json"
    talks = SET | {"field": "turns"}
    house.configure(config(talks, chat_template=True))
    assert house.run(target) == {"fetch": 1, "corpus": 1, "model": 1, "tokens": 1}
    facts = json.loads((house.folder / target).read_text())
    corpus = house.folder / "results/corpora/topics"
    documents, pool = pd.read_csv(corpus / "documents.csv"), (corpus / "pool.txt").read_bytes()
    assert facts["chat_template"]["text"].startswith("{% for m in messages %}")
    rendered = 0
    for row in documents[documents.part == "pool"].itertuples():
        packed = pool[row.offset : row.offset + row.bytes].decode()
        talked = conversations.messages(packed)
        rendered += sum(len(f"<{m['role']}>{m['content']}") for m in talked)
    assert facts["tokens"] == 1 + rendered  # BOS and a token a byte
    house.configure(config(talks))
    assert house.would_run(target) == {"corpus": 1, "tokens": 1}


def test_a_source_that_is_wrong_is_a_sentence(house):
    house.configure(config(MAIL | {"languages": []}))
    assert "config" in house.snakemake("-n", TARGET).stdout
    house.configure(config({k: v for k, v in MAIL.items() if k != "languages"}))
    result = house.snakemake("-n", TARGET)
    assert "source mail: kind plugin needs languages" in result.stdout + result.stderr
    house.configure(config(MAIL | {"samples": 5000}))
    result = house.snakemake(TARGET)
    assert "mail/en: input/letters.py has 400 samples with text" in result.stderr + result.stdout


def test_as_many_sources_as_can_be_told_apart(house, texts):
    """Together they are longer than Linux lets a word of a command line be."""
    path = f"input/{'long' * 50}.txt"
    (house.folder / path).write_text("\n%%\n".join(texts[:30]))
    many = [{"name": f"s{i}", "path": path, "separator": "\n%%\n"} for i in range(257)]
    house.configure(config(*many))
    said = house.snakemake("-n", TARGET).stdout
    assert re.search(r"line \d+: corpora\.topics\.sources: 257 sources are more than the 256", said)
    house.configure(config(*many[:256]))
    assert house.run(TARGET) == {"corpus": 1}
    facts = json.loads((house.folder / TARGET).read_text())
    assert len(facts["sources"]) == 256 and facts["sources"]["s255"]["read"] == 30


def test_text_is_utf_8_whatever_the_locale(house, monkeypatch):
    text = "\n%%\n".join(f"Übermäßig groß, naïve, 日本語: № {i}." * 30 for i in range(30))
    (house.folder / "input/text.txt").write_text(text, encoding="utf-8")
    source = {"name": "s", "path": "input/text.txt", "separator": "\n%%\n"}
    house.configure(config(source))
    for name, value in {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}.items():
        monkeypatch.setenv(name, value)
    assert house.run(TARGET) == {"corpus": 1}
    pool = (house.folder / TARGET).with_name("pool.txt").read_text(encoding="utf-8")
    assert "Übermäßig groß, naïve, 日本語: №" in pool
    house.configure(config(source | {"path": "input/größe.txt"}))
    assert "run `export PYTHONUTF8=1` first" in house.snakemake("-n", TARGET).stdout
