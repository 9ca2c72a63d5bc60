"""Roundings in a sweep: what is made, and what goes stale."""

import json

import pandas as pd

from quern import gguf_files
from quern.quantize.recipes import KEY

from .conftest import require_watched
from .test_reruns import changed

QUANTIZE = "quantize__0"


def test_a_rounding_is_one_more_recipe(house):
    house.configure(changed(**{f"{QUANTIZE}__types": ["Q4_0"]}))
    house.run()
    options = {f"{QUANTIZE}__types": ["Q4_0"], f"{QUANTIZE}__rounding": ["ggml", "exact"]}
    house.configure(changed(**options))
    assert house.run() == {"reround": 2, "compare": 2, "summary": 1}
    folder = house.folder / "results/tiny"
    for name in ("Q4_0~exact", "Q4_0~exact+topics"):
        reader = gguf_files.open_gguf(folder / f"quantize/{name}.gguf")
        assert gguf_files.field(reader, KEY) == "exact"
        assert name in (folder / "summary/topics.md").read_text()
    assert house.would_run() == {}


def test_llamas_own_is_made_even_where_only_the_rounding_is_wanted(house):
    options = {f"{QUANTIZE}__types": ["Q5_0"], f"{QUANTIZE}__rounding": ["gradient"]}
    house.configure(changed(**options))
    assert house.would_run() == {"quantize": 2, "reround": 2, "compare": 2, "summary": 1}


def test_the_table_of_roundings(house):
    options = {f"{QUANTIZE}__types": ["Q4_0"], f"{QUANTIZE}__rounding": ["ggml", "exact"]}
    house.configure(changed(**options))
    assert house.run("roundings")["rounding_table"] == 1
    folder = house.folder / "results/tiny/rounding"
    table = pd.read_csv(folder / "topics.csv", keep_default_na=False)
    rows = sorted(zip(table.rounding, table.imatrix, strict=True))
    assert rows == [(r, i) for r in ("exact", "ggml") for i in ("none", "topics")]
    exact = table.rounding == "exact"
    assert set(table[exact].kld_mean_verdict) <= {"better", "worse", "tied", "cannot tell"}
    assert set(table[~exact].kld_mean_verdict) == {""}
    assert (table.kld_mean_low <= table.kld_mean).all() and (table.seconds > 0).all()
    assert "## With the imatrix topics" in (folder / "topics.md").read_text()
    assert house.would_run("roundings") == {}


def test_errors_are_made_up_by_moments(house):
    options = {f"{QUANTIZE}__types": ["Q4_0"], f"{QUANTIZE}__rounding": ["compensated"]}
    options[f"{QUANTIZE}__imatrix"] = ["topics"]
    house.configure(changed(**options) | {"moments": {"windows": 40, "memory": "8MB"}})
    made = house.run()
    assert made["moments"] == 2 and made["reround"] == 1 and made["quantize"] == 1
    name, folder = "Q4_0~compensated+topics", house.folder / "results/tiny"
    made = json.loads((folder / f"quantize/{name}.json").read_text())["made"]
    facts, blocks = made["compensated"], gguf_files.model_info(house.folder / "input/tiny.gguf")
    assert set(facts) == {*blocks.matrices, "output.weight"}
    assert "twice as many promise" in made["notes"][-1]
    assert all(own["ratio"] <= 1 for own in facts.values())
    reader = gguf_files.open_gguf(folder / f"quantize/{name}.gguf")
    assert gguf_files.field(reader, KEY) == "compensated"
    assert house.would_run() == {}
    house.configure(changed(**options) | {"moments": {"windows": 30, "memory": "8MB"}})
    assert house.would_run() == {"moments": 2, "reround": 1, "compare": 1, "summary": 1}
    require_watched(folder)
