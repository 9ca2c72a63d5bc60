"""Sources in proportion, in every prefix and order; chat templates."""

import json

import h5py
import numpy as np
import pandas as pd
import pytest

from conftest import command, fails_with
from models import write_model
from quern import QuernError, files, gguf_files
from quern.corpus import build
from quern.corpus.sources import Source
from quern.llama import Model
from quern.tokens.chat import ChatTemplate
from quern.tokens.mixture import Mixing, tokenize_documents
from quern.tokens.windows import read_documents, read_tokens


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model with a chat template, and its JSON."""
    folder = tmp_path_factory.mktemp("model")
    template = (
        "{{ bos_token }}{% for m in messages %}\n[{{ m.role }}] {{ m['content'] | trim }}\n"
        "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    path = write_model(folder / "m.gguf", chat_template=template)
    info = gguf_files.model_info(path)
    files.write_json(folder / "m.json", info.as_dict())
    return path


def mix(folder, texts, **settings):
    """A corpus of three sources, 3 : 1 : 1, of very different sizes."""
    sources = []
    for name, weight, some in (("a", 3, texts[:30]), ("b", 1, texts[30:50]), ("c", 1, texts[50:])):
        (folder / f"{name}.txt").write_text("\n%%\n".join(some))
        sources.append(
            Source(name, str(folder / f"{name}.txt"), separator="\n%%\n", weight=float(weight))
        )
    build.build(sources, folder / "corpus", build.CorpusSettings(20_000, **settings))


def tokenize(model, folder, part="pool", *options, name="t"):
    result = command(
        "tokens",
        *("--model", model, "--info", model.with_suffix(".json")),
        *("--text", folder / f"corpus/{part}.txt", "--documents", folder / "corpus/documents.csv"),
        *("--corpus", folder / "corpus/corpus.json", *options),
        *("--output", folder / f"{name}.h5", "--facts", folder / f"{name}.json"),
        *("--sources", folder / f"{name}.csv"),
    )
    assert result.returncode == 0, result.stderr
    with h5py.File(folder / f"{name}.h5", locking=False) as h5:
        return h5["tokens"][:], h5["source"][:], read_tokens(folder / f"{name}.h5")


def text_of(tokens):
    """What byte tokens stand for; the model's merge is of `e` and a space."""
    return "".join(chr(t) if t < 256 else "|" for t in tokens)


def pool_of(folder, source):
    """The documents of a source in the pool, in the order of the file, each with an empty line."""
    table = pd.read_csv(folder / "corpus/documents.csv")
    table = table[(table.part == "pool") & (table.source == source)]
    content = (folder / "corpus/pool.txt").read_bytes()
    places = zip(table.offset, table.bytes, strict=True)
    return [content[offset : offset + size] + b"\n\n" for offset, size in places]


def bytes_of(model, texts):
    """The tokens of texts, one after the other."""
    with Model(model, load="vocab") as opened:
        return np.concatenate([opened.tokenize(text) for text in texts])


@pytest.mark.parametrize("order", ["structured", "shuffled"])
def test_sources_in_proportion_each_in_the_order_of_its_documents(model, tmp_path, texts, order):
    mix(tmp_path, texts, order=order)
    tokens, source, file = tokenize(model, tmp_path, "pool", "--n-ctx", 64)
    assert file.sources == ("a", "b", "c")
    windows, sources = tokens.reshape(-1, 64), source.reshape(-1, 64)[:, 0]
    for end in range(5, len(windows)):
        assert np.ptp(np.bincount(sources[:end], minlength=3) / [3, 1, 1]) <= 1
    mine = text_of(windows[sources == 0][:, 1:].ravel())
    read = pool_of(tmp_path, "a")
    assert mine == text_of(bytes_of(model, read))[: len(mine)]
    table = pd.read_csv(tmp_path / "t.csv", index_col="source")
    assert table.tokens.sum() == len(tokens)
    assert table.left.min() < 64 < table.left.max()
    assert table.weight["a"] == 3
    assert text_of(tokens).startswith("|")
    again, _, _ = tokenize(model, tmp_path, "pool", "--n-ctx", 64, name="u")
    assert (again == tokens).all()


def test_windows_in_random_order_and_in_proportion(model, tmp_path, texts):
    mix(tmp_path, texts, order="random-windows", seed=4)
    tokens, source, file = tokenize(model, tmp_path, "pool", "--n-ctx", 64)
    assert len(tokens) % 64 == 0
    windows, sources = tokens.reshape(-1, 64), source.reshape(-1, 64)
    assert (windows[:, 0] == 256).all()
    assert (sources == sources[:, :1]).all()
    for end in range(5, len(windows)):
        counts = np.bincount(sources[:end, 0], minlength=3) / [3, 1, 1]
        assert np.ptp(counts) <= 1
    pool = (tmp_path / "corpus/pool.txt").read_bytes()
    with Model(model, load="vocab") as opened:
        whole = text_of(opened.tokenize(pool))
    inside = [text_of(window[1:]) for window in windows[:40]]
    assert sum(text in whole for text in inside) > 30  # others reach across documents
    assert len(set(inside)) == len(inside)
    assert file.n_windows(64) == len(windows)
    with pytest.raises(QuernError, match="mixed from windows of 64 tokens, not of 32"):
        file.n_windows(32)
    other, _, _ = tokenize(model, tmp_path, "evaluation", "--n-ctx", 64, name="e")
    assert (other.reshape(-1, 64)[:, 0] == 256).all()


def test_random_windows_without_weights(model, tmp_path, texts):
    (tmp_path / "a.txt").write_text("\n%%\n".join(texts))
    source = Source("a", str(tmp_path / "a.txt"), separator="\n%%\n")
    found = {}
    for seed in (1, 2):
        settings = build.CorpusSettings(9000, seed=seed, order="random-windows")
        build.build([source], tmp_path / "corpus", settings)
        tokens, _, file = tokenize(model, tmp_path, "pool", "--n-ctx", 64)
        found[seed] = file.text_sha256, tokens
    assert found[1][0] != found[2][0]
    pool = (tmp_path / "corpus/pool.txt").stat().st_size
    assert 0.9 * pool < len(tokens) < pool * 64 / 63


def test_a_source_without_text_in_the_pool(model, tmp_path, texts):
    mix(tmp_path, texts)
    facts = files.read_json(tmp_path / "corpus/corpus.json")
    facts["sources"]["b"]["pool"]["documents"] = 0
    files.write_json(tmp_path / "corpus/corpus.json", facts)
    fails_with(pool_tokens(model, tmp_path), "source b: nothing of it is in the pool of corpus c")
    assert not (tmp_path / "t.h5").exists()


def pool_tokens(model, folder):
    """The command that tokenizes the pool of a corpus, whatever becomes of it."""
    return command(
        "tokens",
        *("--model", model, "--info", model.with_suffix(".json")),
        *("--text", folder / "corpus/pool.txt", "--output", folder / "t.h5"),
        *("--documents", folder / "corpus/documents.csv", "--facts", folder / "t.json"),
        *("--corpus", folder / "corpus/corpus.json"),
    )


@pytest.mark.parametrize("name", ["pool.txt", "documents.csv", "corpus.json"])
def test_a_corpus_that_was_changed_since_is_refused(model, tmp_path, texts, name):
    mix(tmp_path, texts)
    path = tmp_path / "corpus" / name
    content = path.read_bytes()
    place = content.index(b"1")
    path.write_bytes(content[:place] + b"2" + content[place + 1 :])
    fails_with(pool_tokens(model, tmp_path), name, "what", "written", "delete it and run again")


def test_a_chat_template_renders_each_document(model, tmp_path, texts):
    (tmp_path / "a.txt").write_text("\n%%\n".join(texts[:30]))
    source = Source("a", str(tmp_path / "a.txt"), separator="\n%%\n")
    build.build([source], tmp_path / "corpus", build.CorpusSettings(9000))
    plain, _, before = tokenize(model, tmp_path)
    tokens, _, file = tokenize(model, tmp_path, "pool", "--chat-template")
    facts = json.loads((tmp_path / "corpus/corpus.json").read_text())
    documents = facts["pool"]["documents"]
    assert (tokens == 256).sum() == documents and (plain == 256).sum() == 1
    text = text_of(tokens)
    assert text.startswith("|[us") and text.count("[assistant]|") == documents - 1
    assert file.text_sha256 != before.text_sha256
    made = json.loads((tmp_path / "t.json").read_text())
    assert made["chat_template"]["sha256"] == ChatTemplate.read(model).sha256
    assert made["special"] is True


def test_documents_that_a_template_refuses_are_named_and_left_out(tmp_path, texts):
    template = (
        "{% for m in messages %}{% if 'refuse' in m.content %}{{ raise_exception('no') }}"
        "{% elif 'hush' not in m.content %}{{ m.content }}<|begin|>{% endif %}{% endfor %}"
    )
    model = write_model(tmp_path / "m.gguf", chat_template=template)
    files.write_json(tmp_path / "m.json", gguf_files.model_info(model).as_dict())
    some = [*texts[:40], "please refuse", "hush", "the text <|begin|> of a token"]
    (tmp_path / "a.txt").write_text("\n%%\n".join(some))
    source = Source("a", str(tmp_path / "a.txt"), separator="\n%%\n", part="pool")
    build.build([source], tmp_path / "corpus", build.CorpusSettings(0, chat_template=True))
    tokens, _, _ = tokenize(model, tmp_path, "pool", "--chat-template")
    facts = json.loads((tmp_path / "t.json").read_text())["chat_template"]
    assert facts["refused"] == 2 and facts["mentions"] == 1
    (row,) = pd.read_csv(tmp_path / "t.csv").itertuples()
    assert row.refused == 2
    reason = row.first_refused.split(": ", 1)[1]
    fails = f"the chat template of {model} fails (no)."
    assert reason in (fails, "the chat template prints nothing.")
    assert (tokens == 256).sum() == 1 + 41 + 1  # BOS, after each document, in one's text
    tokens, _, _ = tokenize(model, tmp_path, "pool", "--chat-template", "--neutralize-special")
    assert (tokens == 256).sum() == 1 + 41


def test_a_template_that_refuses_most_ends_the_run(model, tmp_path, texts):
    plan = Mixing(template=ChatTemplate("m", "{{ raise_exception('no') }}"), special=True)
    (tmp_path / "a.txt").write_text("\n%%\n".join(texts[:3]))
    source = Source("a", str(tmp_path / "a.txt"), separator="\n%%\n", part="pool")
    build.build([source], tmp_path / "corpus", build.CorpusSettings(0))
    text, table = tmp_path / "corpus/pool.txt", tmp_path / "corpus/documents.csv"
    with (
        Model(model, load="vocab") as tokenizer,
        pytest.raises(QuernError, match=r"refuses 3 of 3 .*: source a: document \d: .*no"),
    ):
        documents = read_documents(table, text)
        tokenize_documents(tokenizer, "", text, tmp_path / "t.h5", documents, plan)
