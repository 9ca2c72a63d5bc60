"""The demo configuration, end to end."""

import json

import pandas as pd
import pytest

from conftest import HOUSE

from .conftest import build


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    house = build(tmp_path_factory.mktemp("demo"))
    (house.folder / "resources").symlink_to(HOUSE / "resources")
    house.run(report=True)
    return house


@pytest.fixture(scope="module")
def table(demo):
    return pd.read_csv(demo.folder / "results/demo/summary/python.csv").set_index("recipe")


ORDER = ["Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K"]


@pytest.mark.parametrize("ending", ["", "+python"])
def test_divergence_rises_as_size_falls(table, ending):
    rows = table.loc[[name + ending for name in ORDER]]
    assert rows.kld_mean.is_monotonic_increasing
    assert rows.score.is_monotonic_increasing
    assert rows.bytes.is_monotonic_decreasing
    assert (rows.kld_mean > 0).all()


def test_an_imatrix_lowers_the_divergence_of_low_bit_types(table):
    for name in ("Q4_K_M", "Q3_K_M", "Q2_K"):
        assert table.kld_mean[f"{name}+python"] < table.kld_mean[name]
    assert table.kld_mean["Q2_K+python"] < 0.95 * table.kld_mean["Q2_K"]


def test_the_model_has_learnt_its_language(demo):
    result = json.loads((demo.folder / "results/demo/compare/Q8_0/python.json").read_text())
    info = json.loads((demo.folder / "results/demo/model.json").read_text())
    assert result["figures"]["ppl_base"]["value"] < info["n_vocab"] / 50


def test_the_table_and_the_picture_are_there(demo, table):
    folder = demo.folder / "results/demo/summary"
    lines = (folder / "python.md").read_text().splitlines()
    assert len([line for line in lines if line.startswith("|")]) == len(table) + 2
    assert (folder / "python.png").read_bytes()[:4] == b"\x89PNG"


def test_a_second_run_has_nothing_to_do(demo):
    result = demo.snakemake()
    assert "Nothing to be done" in result.stderr + result.stdout
