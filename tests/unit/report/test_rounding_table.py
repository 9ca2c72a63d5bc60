"""Roundings side by side, with their time from Snakemake's benchmarks."""

import json
from pathlib import Path

import pandas as pd
import pytest

from quern import QuernError
from quern.report import rounding_table, summary

SECONDS = {"Q2_K": 1.25, "Q4_0": 2.5, "Q8_0": 10.0}
VERDICTS = [f"{name}_verdict" for name in rounding_table.FIGURES]


@pytest.fixture
def entries(compared, tmp_path):
    """Q4_0 passes for ggml's rounding; the others for roundings of the same recipe."""
    found = []
    for entry in compared:
        name = entry["name"]
        benchmark = tmp_path / f"{name}.tsv"
        benchmark.write_text(
            "s\th:m:s\tmax_rss\tmax_vms\tmean_load\tcpu_time\n"
            f"{SECONDS[name]}\t0:00:01\t10.00\t20.00\t99.00\t{SECONDS[name] / 2}\n"
        )
        rounding = {"Q2_K": "bad", "Q4_0": "ggml", "Q8_0": "good"}[name]
        more = {"rounding": rounding, "plain": "Q4_0", "benchmark": str(benchmark)}
        found.append(entry | more)
    return found


@pytest.fixture
def frame(entries, compared):
    return rounding_table.table(entries)


def test_rows_are_the_entries_with_their_figures(frame, entries):
    assert list(frame.type) == [entry["type"] for entry in entries]
    assert list(frame.rounding) == [entry["rounding"] for entry in entries]
    assert list(frame.seconds) == [SECONDS[entry["name"]] for entry in entries]
    for (_, row), entry in zip(frame.iterrows(), entries, strict=True):
        result = json.loads(Path(entry["compare"]).read_text())
        assert (row.windows, row.imatrix) == (result["windows"], "none")
        for name in rounding_table.FIGURES:
            figure = result["figures"][name]
            found = {"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]}
            assert found == {key: figure[key] for key in found}


def test_ggmls_own_rounding_has_no_verdict(frame):
    rows = frame.set_index("rounding")[VERDICTS]
    assert set(rows.loc["ggml"]) == {""}
    assert "" not in set(rows.loc["good"]) | set(rows.loc["bad"])


def test_verdicts_are_those_of_pairs_and_know_what_is_good(frame, entries, compared):
    """KLD should be low, the share of the same top high."""
    rows = frame.set_index("rounding")
    for name in ("kld_mean", "kld_median", "same_top"):
        assert rows.loc["good", f"{name}_verdict"] == "better"
        assert rows.loc["bad", f"{name}_verdict"] == "worse"
    recipes = summary.read(entries)
    pairs = summary.pairs(recipes, [("Q8_0", "Q4_0"), ("Q2_K", "Q4_0")])
    for row in pairs.itertuples():
        if row.figure in rounding_table.FIGURES:
            rounding = {"Q8_0": "good", "Q2_K": "bad"}[row.recipe]
            assert rows.loc[rounding, f"{row.figure}_verdict"] == row.verdict


def test_a_rounding_like_ggmls_is_tied(entries, compared):
    ggml = entries[1]
    copy = ggml | {"name": "copy", "rounding": "copy"}
    frame = rounding_table.table([ggml, copy])
    assert set(frame[VERDICTS].iloc[1]) == {"tied"}


def cells_of(text):
    rows = [line for line in text.splitlines() if line.startswith("|") and "---" not in line]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_what_is_written(frame, tmp_path):
    rounding_table.write(
        frame, "some model", csv=tmp_path / "t.csv", markdown_path=tmp_path / "t.md"
    )
    found = pd.read_csv(tmp_path / "t.csv", keep_default_na=False)
    pd.testing.assert_frame_equal(found, frame, check_dtype=False)
    text = (tmp_path / "t.md").read_text()
    assert text == rounding_table.markdown(frame, "some model")
    assert text.startswith("# some model\n") and "over 12 windows" in text
    head, *rows = cells_of(text)
    assert [row[:2] for row in rows] == frame[["type", "rounding"]].to_numpy().tolist()
    for cells, row in zip(rows, frame.to_dict("records"), strict=True):
        shown = dict(zip(head, cells, strict=True))
        assert shown["seconds"] == f"{row['seconds']:.1f}"
        value, low, high, *verdict = shown["kld_mean"].replace("[", "").replace("]", "").split()
        assert float(value) == pytest.approx(row["kld_mean"], abs=6e-7)
        assert float(low.strip(",")) == pytest.approx(row["kld_mean_low"], abs=6e-7)
        assert float(high) == pytest.approx(row["kld_mean_high"], abs=6e-7)
        assert " ".join(verdict) == row["kld_mean_verdict"]


def test_markdown_has_a_table_for_each_imatrix(frame):
    both = pd.concat([frame, frame.assign(imatrix="wiki")])
    text = rounding_table.markdown(both, "some model")
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == ["## Without an imatrix", "## With the imatrix wiki"]
    assert len(cells_of(text)) == 2 * (1 + len(frame))


def test_an_entry_that_is_no_comparison_is_refused(entries, compared):
    lacking = {key: value for key, value in entries[0].items() if key != "positions"}
    with pytest.raises(QuernError, match="positions"):
        rounding_table.table([lacking, *entries[1:]])
