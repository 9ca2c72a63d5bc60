"""Samples from real local data sets and a real plugin: kept, added to, never fetched twice."""

import json
import os
import subprocess
import sys

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from conftest import HOUSE, command, fails_with
from quern import QuernError
from quern.corpus import fetched, sample_store, sources
from quern.corpus.readers import documents
from quern.corpus.sources import Source, expand

PLUGIN = """
from pathlib import Path
from plugin_base import DataSourcePluginBase

class Letters(DataSourcePluginBase):
    def __init__(self, name="letters", **kwargs):
        super().__init__(name, **kwargs)
        self.schema = {"content": "letter.0.body"}
        self.calls = Path(__file__).with_name("calls")

    def load_data(self, lang, num_samples=200, skip_samples=0):
        with self.calls.open("a") as calls:
            calls.write(f"{lang} {num_samples} {skip_samples}\\n")
        n = self.kwargs.get("letters", 2500)
        letters = [{"letter": [{"body": f"{lang} {i}" if i % 10 else ""}]} for i in range(n)]
        return letters[skip_samples : skip_samples + num_samples]

class Raises(Letters):
    def load_data(self, lang, num_samples=200, skip_samples=0):
        if skip_samples:
            raise ConnectionError("the line is dead")
        return super().load_data(lang, num_samples, skip_samples)

class Greedy(Letters):
    def load_data(self, lang, num_samples=200, skip_samples=0):
        return super().load_data(lang, num_samples + 1, skip_samples)

class Nothing(Letters):
    def load_data(self, lang, num_samples=200, skip_samples=0):
        return None

class Numbers(Letters):
    def get_content(self, record):
        return 3

class Elsewhere(Letters):
    def __init__(self):
        super().__init__()
        self.schema = {"content": "letter.text"}
"""


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf/datasets"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")


@pytest.fixture
def plugin(tmp_path):
    path = tmp_path / "letters.py"
    path.write_text(PLUGIN)
    return path


@pytest.fixture(params=["parquet", "jsonl"])
def data(request, tmp_path, texts):
    """A folder that is a data set with two splits and two languages, of nested records."""
    for split, some in {"train": texts[:40], "test": texts[40:50]}.items():
        records = [{"id": i, "conversation": [{"text": t}]} for i, t in enumerate(some)]
        path = tmp_path / f"data/{split}-00000.{request.param}"
        path.parent.mkdir(exist_ok=True)
        if request.param == "parquet":
            pd.DataFrame(records).to_parquet(path)
        else:
            path.write_text("\n".join(map(json.dumps, records)))
    return tmp_path / "data"


def dataset(path, **options):
    options = {"field": "conversation.0.text"} | options
    return sources.with_content(Source("set", str(path), kind="dataset", **options))


def kept(source, folder):
    """Fetch, and read as a corpus would."""
    facts = sample_store.fetch(source, folder)
    return list(documents(Source(source.name, str(facts), kind="raw")))


@pytest.mark.parametrize("streaming", [True, False])
def test_a_data_set(tmp_path, data, texts, streaming):
    read = {"streaming": streaming}
    assert kept(dataset(data, **read), tmp_path / "raw") == texts[:40]
    assert kept(dataset(data, split="test", **read), tmp_path / "raw") == texts[40:50]
    some = dataset(data, samples=5, skip=7, **read)
    assert kept(some, tmp_path / "raw") == texts[7:12]


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"split": "nope"}, ["source set: datasets cannot load", "nope", "train"]),
        ({"field": "body"}, ["data has no field body; it has id, conversation"]),
        ({"field": "conversation.0.body"}, ["sample 0 of", "has no field conversation.0.body"]),
        ({"field": "id"}, ["field id in sample 0", "is int, not text"]),
        ({"samples": 99}, ["has 40 samples with text, 99 were asked for"]),
        ({"skip": 40}, ["has no samples with text, after the first 40"]),
        ({"configuration": "xx"}, ["source set: datasets cannot load", "xx"]),
    ],
)
def test_a_data_set_that_is_not_as_asked(tmp_path, data, streaming, options, words):
    with pytest.raises(QuernError) as error:
        sample_store.fetch(dataset(data, streaming=streaming, **options), tmp_path / "raw")
    for word in words:
        assert word in str(error.value)
    assert not list((tmp_path / "raw").rglob("*.json"))


@pytest.mark.parametrize("streaming", [True, False])
def test_sound_beside_a_text_is_not_decoded(tmp_path, texts, streaming):
    """These bytes are no sound, and nothing here could decode any."""
    sound = [{"bytes": b"RIFF", "path": f"{i}.wav"} for i in range(9)]
    table = pa.table({"audio": pa.array(sound), "text": pa.array(texts[:9])})
    features = {"audio": {"_type": "Audio"}, "text": {"dtype": "string", "_type": "Value"}}
    kinds = json.dumps({"info": {"features": features}})
    (tmp_path / "data").mkdir()
    path = tmp_path / "data/train.parquet"
    pq.write_table(table.replace_schema_metadata({"huggingface": kinds}), path)
    source = dataset(tmp_path / "data", streaming=streaming, field="text")
    assert kept(source, tmp_path / "raw") == texts[:9]


def test_a_part_of_a_split(tmp_path, texts):
    (tmp_path / "data").mkdir()
    lines = (json.dumps({"text": text}) for text in texts[:40])
    (tmp_path / "data/train.jsonl").write_text("\n".join(lines))
    options = {"split": "train[:10%]", "field": "text"}
    whole = dataset(tmp_path / "data", streaming=False, **options)
    assert kept(whole, tmp_path / "raw") == texts[:4]
    with pytest.raises(QuernError, match=r"such as train\[:10%\], needs streaming: false\."):
        kept(dataset(tmp_path / "data", **options), tmp_path / "raw")


def test_a_data_set_that_is_not_there(tmp_path):
    with pytest.raises(QuernError, match=r"source set: datasets cannot load .*nowhere"):
        sample_store.fetch(dataset(tmp_path / "nowhere"), tmp_path / "raw")


def test_oscar(tmp_path, texts):
    for language, some in {"en": texts[:10], "de": texts[10:14]}.items():
        folder = tmp_path / f"oscar/{language}_meta"
        folder.mkdir(parents=True)
        lines = "\n".join(json.dumps({"content": t, "metadata": {}}) for t in some)
        path = folder / f"{language}_meta_part_1.jsonl.zst"
        path.write_bytes(zstandard.compress(lines.encode()))
    entry = {"name": "oscar", "kind": "oscar", "path": str(tmp_path / "oscar"), "samples": 3}
    english, german = expand(entry | {"languages": ["en", "de"]})
    assert kept(english, tmp_path / "raw") == texts[:3]
    assert kept(german, tmp_path / "raw") == texts[10:13]
    (missing,) = expand(entry | {"languages": ["xx"]})
    with pytest.raises(QuernError, match="source oscar/xx: datasets cannot load"):
        sample_store.fetch(missing, tmp_path / "raw")


def letters(plugin, name="Letters", **options):
    entry = {"name": "mail", "kind": "plugin", "path": str(plugin), "class": name, "samples": 20}
    (source,) = expand(entry | {"languages": ["en"]} | options)
    return sources.with_content(source)


EXPECTED = [f"en {i}" for i in range(2500) if i % 10]


def test_a_plugin_and_asking_for_more(tmp_path, plugin):
    calls = tmp_path / "calls"
    assert kept(letters(plugin), tmp_path) == EXPECTED[:20]
    assert calls.read_text() == "en 20 0\nen 2 20\nen 1 22\n"
    calls.unlink()
    assert kept(letters(plugin, samples=1500), tmp_path) == EXPECTED[:1500]
    first = calls.read_text().split()
    assert int(first[2]) == 23  # what was there is passed over
    calls.unlink()
    assert kept(letters(plugin, samples=700), tmp_path) == EXPECTED[:700]
    assert not calls.exists()
    parts = sample_store.stored(tmp_path / sources.folder_name(letters(plugin)))
    assert sum(part.samples for part in parts) == 1500
    table = pq.read_table(parts[0].path)
    assert table.column("record").to_pylist()[:10] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 11]
    origin = json.loads(table.schema.metadata[b"quern"])["origin"]
    assert origin["path"] == str(plugin) and origin["language"] == "en"


def test_two_at_once_do_not_disturb_each_other(tmp_path, plugin):
    script = HOUSE / "scripts/fetch.py"
    line = [sys.executable, script, "--datasource-plugin", plugin, "--plugin-class", "Letters"]
    line += ["--langs", "en", "--output", tmp_path / "raw", "--num-samples"]
    running = [
        subprocess.Popen([*map(str, line), str(n)], stdout=subprocess.PIPE, text=True)
        for n in (30, 1500, 200)
    ]
    for n, process in zip((30, 1500, 200), running, strict=True):
        output, _ = process.communicate()
        facts = output.strip()
        assert list(documents(Source("s", facts, kind="raw"))) == EXPECTED[:n]


def test_a_part_with_fewer_samples_than_listed(tmp_path, plugin):
    facts = sample_store.fetch(letters(plugin), tmp_path)
    part = facts.parent / "part-00000.parquet"
    pq.write_table(pq.read_table(part)[:5], part)
    with pytest.raises(QuernError, match=r"part-00000.parquet is not what .* lists"):
        list(documents(Source("s", str(facts), kind="raw")))


def test_everything_a_plugin_has_with_its_options(tmp_path, plugin):
    source = letters(plugin, samples=None, skip=5, options={"letters": 1200})
    assert kept(source, tmp_path) == [f"en {i}" for i in range(5, 1200) if i % 10]
    assert sources.folder_name(source) != sources.folder_name(letters(plugin))


def test_fetching_goes_on_after_an_interruption(tmp_path, plugin, monkeypatch):
    real = fetched.texts

    def interrupted(source, start, wanted):
        for number, text in real(source, start, wanted):
            if number == 1234:
                raise KeyboardInterrupt
            yield number, text

    monkeypatch.setattr(fetched, "texts", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sample_store.fetch(letters(plugin, samples=2000), tmp_path)
    assert sample_store.count(letters(plugin), tmp_path) == len([i for i in range(1234) if i % 10])
    (tmp_path / "calls").unlink()
    monkeypatch.setattr(fetched, "texts", real)
    assert kept(letters(plugin, samples=2000), tmp_path) == EXPECTED[:2000]
    assert (tmp_path / "calls").read_text().startswith("en 890 1234\n")


def test_a_changed_plugin_is_another_source(tmp_path, plugin):
    before = sources.folder_name(letters(plugin))
    assert sources.folder_name(letters(plugin, samples=3)) == before
    plugin.write_text(PLUGIN + "\n")
    assert sources.folder_name(letters(plugin)) != before


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("Raises", {}, "raised ConnectionError: the line is dead"),
        ("Greedy", {}, "gave more than 20 records"),
        ("Nothing", {}, "load_data('en', 20, 0) of .* gave NoneType instead of a list"),
        ("Numbers", {}, "what get_content gave for record 0 of .* is int, not text"),
        ("Elsewhere", {}, "record 0 of .* has no field letter.text; it has letter"),
        ("Elsewhere", {"options": {"a": 1}}, "Elsewhere() of .* raised TypeError"),
        ("Absent", {}, "no class Absent that inherits .* its plugins are: Letters, Raises"),
        ("Letters", {"samples": 9999}, "has 2250 samples with text of the language en, 9999 were"),
        ("Letters", {"skip": 9999}, "has no samples with text of the language en, after the first"),
        ("Letters", {"path": "no.py"}, "the plugin no.py does not exist"),
    ],
)
def test_a_plugin_that_is_not_as_asked(tmp_path, plugin, name, options, words):
    words = words.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(QuernError, match=f"source mail/en: .*{words}"):
        sample_store.fetch(letters(plugin, name, **options), tmp_path)
    assert not list(tmp_path.rglob("*.json"))


def test_a_plugin_that_cannot_be_imported(tmp_path):
    (tmp_path / "p.py").write_text("import nothing_of_this_name")
    with pytest.raises(QuernError, match=r"importing the class of .* raised ModuleNotFoundError"):
        sample_store.fetch(letters(tmp_path / "p.py"), tmp_path)


def test_what_was_fetched_before_a_plugin_failed_is_kept(tmp_path, plugin):
    with pytest.raises(QuernError, match="the line is dead"):
        sample_store.fetch(letters(plugin, "Raises"), tmp_path)
    assert sample_store.count(letters(plugin, "Raises"), tmp_path) == 18


def test_a_token_is_never_repeated(tmp_path):
    (tmp_path / "p.py").write_text(
        "import os\nraise RuntimeError('with ' + os.environ['HF_TOKEN'])"
    )
    with pytest.raises(QuernError, match=r"RuntimeError: with \*\*\*") as error:
        sample_store.fetch(letters(tmp_path / "p.py"), tmp_path)
    assert "hf_secret" not in str(error.value)


def test_damaged_and_missing_parts(tmp_path, plugin):
    source = letters(plugin, samples=2000)
    facts = sample_store.fetch(source, tmp_path)
    second = facts.parent / "part-00001.parquet"
    second.rename(tmp_path / "kept")
    with pytest.raises(QuernError, match=r"part-00001.parquet, which .* is gone"):
        list(documents(Source("s", str(facts), kind="raw")))
    with pytest.raises(QuernError, match=r"lacks part-00001.parquet"):
        (tmp_path / "kept").rename(facts.parent / "part-00002.parquet")
        sample_store.fetch(source, tmp_path)
    os.truncate(facts.parent / "part-00000.parquet", 100)
    with pytest.raises(QuernError, match=r"part-00000.parquet is damaged"):
        sample_store.fetch(source, tmp_path)


def test_the_command(tmp_path, plugin):
    options = ["--datasource-plugin", plugin, "--plugin-class", "Letters", "--langs", "en", "es"]
    options += ["--num-samples", 30, "--skip-samples", 5, "--output", tmp_path / "raw"]
    result = command("fetch", *options, "--count-only")
    assert result.stdout == "letters/en: 0 there, 30 asked for\nletters/es: 0 there, 30 asked for\n"
    result = command("fetch", *options)
    assert result.returncode == 0, result.stderr
    _english, spanish = result.stdout.split()
    assert list(documents(Source("s", spanish, kind="raw")))[:6] == [
        f"es {i}" for i in (5, 6, 7, 8, 9, 11)
    ]
    result = command("fetch", *options[:-4], "--output", tmp_path / "raw", "--count-only")
    assert "letters/en: 0 there, 30 asked for" in result.stdout  # not those after the first 5
    fails_with(command("fetch", "--output", tmp_path), "say what to fetch")
    options[3] = "Raises"
    fails_with(command("fetch", *options), "source letters/en:", "the line is dead")


def test_the_example_plugin(tmp_path):
    records = [json.dumps({"letter": {"body": f"Letter {i}."}}) for i in range(9)]
    (tmp_path / "en.jsonl").write_text("\n".join(records))
    options = {"folder": str(tmp_path)}
    example = letters(HOUSE / "config/examples/letters.py", samples=4, skip=3, options=options)
    assert kept(example, tmp_path) == [f"Letter {i}." for i in range(3, 7)]


def test_all_of_a_config(tmp_path, plugin):
    source = {"name": "mail", "kind": "plugin", "path": str(plugin), "class": "Letters"}
    source |= {"languages": ["en", "de"], "samples": 7}
    files = {"name": "text", "path": "text.txt"}
    config = {"corpora": {"a": {"sources": [source, files]}}}
    (tmp_path / "c.yaml").write_text(json.dumps(config))
    options = ["--config", tmp_path / "c.yaml", "--output", tmp_path / "raw"]
    assert command("fetch", *options).returncode == 0
    result = command("fetch", *options, "--count-only")
    assert result.stdout == "mail/en: 7 there, 7 asked for\nmail/de: 7 there, 7 asked for\n"
