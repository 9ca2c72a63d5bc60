"""What others may read of a configuration, and of names of files."""

import copy
import re
from pathlib import Path

import pytest
import yaml

from conftest import HOUSE
from quern import configuration, published

SCHEMA = yaml.safe_load((HOUSE / "config/config.schema.yaml").read_text())
CONFIG = {
    "models": {
        "one": "/home/me/one/model.gguf",
        "two": "../two/model.gguf",
        "same": "/home/me/one/model.gguf",
        "far": "hf://owner/name@main/x.gguf",
    },
    "corpora": {
        "mixed": {
            "sources": [
                {"name": "a", "path": "secret/place/{lang}/x/*.txt", "languages": ["en", "de"]},
                {"name": "b", "path": "~/texts/b.txt", "separator": "/"},
                {"name": "c", "path": "C:\\Users\\me\\c.txt", "separator": "~"},
                {
                    "name": "d",
                    "kind": "plugin",
                    "path": "../plugins/mail.py",
                    "languages": ["en"],
                    "options": {"api_key": "sk-0123456789", "deep": [{"password": "hunter22"}]},
                },
                {
                    "name": "e",
                    "kind": "dataset",
                    "path": "owner/data",
                    "data_files": "data/train-*.parquet",
                },
                {
                    "name": "f",
                    "kind": "dataset",
                    "path": "json",
                    "data_files": "https://me:pass@host.example/f.jsonl?token=abc#x",
                },
                {"name": "g", "kind": "dataset", "path": "/home/me/sets/g", "field": "/"},
            ]
        }
    },
    "evaluation": {"corpora": ["mixed"]},
    "imatrix": {"files": {"x": "/home/me/x.dat", "y": {"path": "secret/y.gguf"}}},
    "candidates": {"t": "/home/me/t.gguf", "u": {"path": "../u.gguf", "model": "one"}},
    "quantize": [
        {"types": ["Q4_K"], "tensor_types": {"/": "Q8_0"}},
        {"like": "/home/me/like.gguf"},
        {"like": ["secret/a.txt", "~/b.txt"]},
    ],
}


@pytest.fixture(scope="module")
def shown():
    config = copy.deepcopy(CONFIG)
    configuration.check(config, SCHEMA, [])
    before = copy.deepcopy(config)
    found = published.configuration(config, SCHEMA)
    assert config == before
    return found


def test_no_secret_and_no_folder_is_shown(shown):
    text = yaml.safe_dump(shown)
    for word in (
        "sk-",
        "hunter",
        "api_key",
        "password",
        "pass@",
        "token=",
        "/home",
        "secret",
        "..",
    ):
        assert word not in text
    assert not re.search(r"~/|Users", text)
    assert shown["corpora"]["mixed"]["sources"][3].keys() == {"name", "kind", "path", "languages"}


def test_what_is_shown_can_be_repeated(shown):
    configuration.check(copy.deepcopy(shown), SCHEMA, [])
    assert shown["models"] == {
        "one": "model.gguf",
        "two": "2/model.gguf",
        "same": "model.gguf",
        "far": "hf://owner/name@main/x.gguf",
    }
    sources = shown["corpora"]["mixed"]["sources"]
    assert [s["path"] for s in sources] == [
        *("{lang}/*.txt", "b.txt", "c.txt", "mail.py", "owner/data", "json", "g"),
    ]
    assert [s.get("separator") for s in sources[1:3]] == ["/", "~"] and sources[6]["field"] == "/"
    assert sources[4]["data_files"] == "data/train-*.parquet"
    assert sources[5]["data_files"] == "https://host.example/f.jsonl"
    assert shown["imatrix"]["files"] == {"x": "x.dat", "y": {"path": "y.gguf", "n_ctx": 512}}
    assert shown["candidates"] == {"t": "t.gguf", "u": {"path": "u.gguf", "model": "one"}}
    assert [entry.get("like") for entry in shown["quantize"]] == [
        *(None, "like.gguf", ["a.txt", "2/b.txt"])
    ]
    assert shown["quantize"][0]["tensor_types"] == {"/": "Q8_0"}


def test_every_path_of_the_schema_is_marked():
    """A key that is called a path, a file or a pattern of files is one."""

    def places(schema, name=""):
        if isinstance(schema, dict):
            said = schema.get("description", "")
            if "string" in str(schema.get("type")) and (
                name in ("path", "like") or re.search(r"^(A file|Files|Path)\b|GGUF", said)
            ):
                yield name, schema.get("format")
            for key, inner in schema.items():
                yield from places(inner, key)
        elif isinstance(schema, list):
            for inner in schema:
                yield from places(inner, name)

    found = list(places(SCHEMA["properties"]))
    assert len(found) >= 7 and {kind for _, kind in found} == {"path"}


def test_a_local_folder_is_no_name_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("owner/data").mkdir(parents=True)
    config = {"corpora": {"c": {"sources": [CONFIG["corpora"]["mixed"]["sources"][4]]}}}
    (source,) = published.configuration(config, SCHEMA)["corpora"]["c"]["sources"]
    assert (source["path"], source["data_files"]) == ("data", "train-*.parquet")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Llama 3 8B", "Llama 3 8B"),
        ("meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-1B"),
        ("https://host.example/a/b", "https://host.example/a/b"),
        ("/home/me/Llama-3", "Llama-3"),
        ("../Llama-3/", "Llama-3"),
        ("~/Llama-3", "Llama-3"),
        ("D:\\models\\Llama-3", "Llama-3"),
        ("file:///home/me/Llama-3", "Llama-3"),
    ],
)
def test_a_path_as_a_name(text, expected):
    assert published.bare(text) == expected


def test_a_repository_in_the_cache_of_the_hub(tmp_path):
    cached = tmp_path / "models--owner--some--name/snapshots/0123/x.gguf"
    assert published.hub_repository(cached) == "owner/some--name"
    assert published.hub_repository(tmp_path / "x.gguf") == ""
