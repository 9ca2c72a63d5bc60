"""Schema, commands and guide name the same defaults, schema and library the same values."""

import argparse
import re
import runpy
import sys

import pytest
import yaml

from conftest import HOUSE
from quern import command, llama, rounding
from quern.corpus import build, readers, sources
from quern.measure import baseline, statistics
from quern.studies import subsampling
from quern.tokens import derivation

SCHEMA = yaml.safe_load((HOUSE / "config/config.schema.yaml").read_text())
# Sections of the configuration, and the commands that take what stands in them.
COMMANDS = {
    "corpora": ["corpus", "tokens"],
    "evaluation": ["baseline", "compare"],
    "calibrations": ["calibration"],
    "imatrix": ["imatrix_shard", "quantize"],
    "growth": ["grow"],
    "mixes": ["mix"],
    "moments": ["moments"],
    "quantize": ["quantize"],
    "speed": ["speed"],
    "perplexity": ["perplexity"],
    "tuning": ["tune"],
    "report": ["memory", "answer"],
    "release": ["release"],
}
# Options that share a key's name alone: grow.py is told the types compared without an imatrix, and
# options that take several values begin with none. Windows are cut as elsewhere if not told.
OTHERS = {
    *(("growth", "types"), ("speed", "depths"), ("report", "kv")),
    *(("perplexity", "n_ctx"), ("tuning", "n_ctx")),
}


def keys_of(section):
    """The keys of a section and their defaults, with `$ref`s followed."""
    schema = SCHEMA["properties"][section]
    for inner in ("additionalProperties", "items"):
        schema = schema[inner] if isinstance(schema.get(inner), dict) else schema
    of_kinds = [branch["then"]["properties"] for branch in schema.get("allOf", ())]
    for key, sub in (item for of in [schema["properties"], *of_kinds] for item in of.items()):
        sub = SCHEMA["$defs"][sub["$ref"].split("/")[-1]] | sub if "$ref" in sub else sub
        if "default" in sub:
            yield key, sub["default"]


def defaults_of(name, monkeypatch):
    """The defaults of a command's options."""
    caught = []
    monkeypatch.setattr(sys, "argv", [name])
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", lambda p, *_: caught.append(p))
    monkeypatch.setattr(command, "run", lambda *_, **__: None)
    runpy.run_path(str(HOUSE / "scripts" / f"{name}.py"), run_name="__main__")
    return {action.dest: action.default for action in caught[0]._actions}


@pytest.mark.parametrize("section", COMMANDS)
def test_commands_have_the_schemas_defaults(section, monkeypatch):
    found = {}
    for name in COMMANDS[section]:
        found |= defaults_of(name, monkeypatch)
    shared = {
        key: default
        for key, default in keys_of(section)
        if key in found and (section, key) not in OTHERS
    }
    assert shared
    for key, default in shared.items():
        axis = isinstance(default, list) and len(default) == 1  # of a sweep, one value at a time
        expected = default[0] if axis else default
        empty = expected in (None, "none", {}) and found[key] in (None, [])
        assert empty or found[key] == expected, key


@pytest.mark.parametrize("section", [*COMMANDS, "studies"])
def test_the_guide_has_the_schemas_defaults(section):
    guide = (HOUSE / "config/README.md").read_text()
    text = re.search(rf"^## `{section}`$(.*?)(?=^## |\Z)", guide, re.M | re.S)[1]
    rows = {
        key: cells[-2].strip().strip("`")
        for line in text.splitlines()
        if line.startswith("| `")
        for cells in [re.split(r"(?<!\\)\|", line)]
        for key in re.findall(r"`(\w+)`", cells[1])
    }
    for key, default in keys_of(section):
        said = yaml.safe_load(rows[key]) if rows[key] else None
        assert said == default or (not said and not default), key


def test_every_section_of_the_schema_is_looked_at():
    without = {"models", "candidates", "evaluations", "studies"}
    assert set(COMMANDS) == set(SCHEMA["properties"]) - without


def test_the_schema_has_the_values_that_there_are():
    of = SCHEMA["properties"]
    until = of["evaluation"]["properties"]["until"]["properties"]
    assert set(until["figure"]["enum"]) == set(statistics.FIGURES)
    roundings = of["quantize"]["items"]["properties"]["rounding"]["items"]
    assert set(roundings["enum"]) == {"ggml", *rounding.ROUNDINGS}
    corpus = of["corpora"]["additionalProperties"]["properties"]
    source = corpus["sources"]["items"]["properties"]
    assert set(source["kind"]["enum"]) == {*readers.READERS, *sources.FETCHED} - {"raw"}
    assert source["part"]["enum"] == list(build.PARTS)
    assert corpus["order"]["enum"] == list(build.ORDERS)
    assert of["evaluation"]["properties"]["store"]["enum"] == list(baseline.STORES)
    assert of["evaluation"]["properties"]["logits_type"]["enum"] == list(baseline.LOGITS_TYPES)
    calibration = of["calibrations"]["additionalProperties"]["properties"]
    assert calibration["order"]["enum"] == [None, *derivation.ORDERS]
    assert calibration["random"]["enum"] == [None, *derivation.RANDOM]
    which = calibration["select"]["properties"]["which"]["enum"]
    assert set(which) == set(derivation.WHICH) == set(subsampling.WHICH)
    kv_types = SCHEMA["$defs"]["kv_type"]["enum"]
    assert {kind.upper() for kind in kv_types} <= set(llama.tensor_types())
    assert kv_types == of["report"]["properties"]["kv"]["items"]["enum"]
