"""The table of recipes against the comparisons behind it."""

import dataclasses
import json
import shutil
from itertools import combinations, permutations
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from quern import QuernError
from quern.measure.divergence import FIGURES
from quern.measure.window_store import WindowStore
from quern.report import summary


@pytest.fixture
def recipes(compared):
    return summary.read(compared)


def named(recipe, name):
    return dataclasses.replace(recipe, name=name)


def test_recipes_come_by_falling_size(compared):
    assert [r.name for r in summary.read(compared)] == ["Q8_0", "Q4_0", "Q2_K"]
    for order in permutations(compared):
        assert summary.read(list(order)) == summary.read(compared)


def test_an_entry_that_lacks_a_key_is_refused(compared):
    first, *rest = compared
    for key in first:
        lacking = {k: value for k, value in first.items() if k != key}
        with pytest.raises(QuernError, match=f"not a list of compared recipes .*'{key}'"):
            summary.read([*rest, lacking])
    for entries in ([1], [None], ["Q4_0"]):
        with pytest.raises(QuernError, match="not a list of compared recipes"):
            summary.read(entries)


def test_a_file_that_is_missing_is_named(compared, tmp_path):
    for key in ("info", "compare"):
        entry = compared[0] | {key: str(tmp_path / "gone.json")}
        with pytest.raises(QuernError, match=r"gone\.json does not exist"):
            summary.read([entry])


def test_figures_are_those_of_the_json(compared, recipes):
    frame = summary.table(recipes).set_index("recipe")
    assert list(frame.index) == [r.name for r in recipes]
    for entry in compared:
        row, result = frame.loc[entry["name"]], json.loads(Path(entry["compare"]).read_text())
        info = json.loads(Path(entry["info"]).read_text())
        assert (row.type, row.imatrix) == (entry["type"], "none")
        assert (row.windows, row.bytes) == (result["windows"], info["file_bytes"])
        assert row.bpw == info["tensor_bytes"] * 8 / info["parameters"]
        for name in summary.FIGURES:
            figure = result["figures"][name]
            assert row[name] == figure["value"]
            assert (row[f"{name}_low"], row[f"{name}_high"]) == (figure["low"], figure["high"])


def test_differences_are_those_of_the_figures(recipes, compared):
    values = summary.table(recipes).set_index("recipe")
    found = summary.pairs(recipes)
    assert set(zip(found.recipe, found.other, strict=True)) == set(
        combinations(["Q8_0", "Q4_0", "Q2_K"], 2)
    )
    assert len(found) == 3 * len(summary.PAIRED)
    for row in found.itertuples():
        expected = values.loc[row.recipe, row.figure] - values.loc[row.other, row.figure]
        assert row.difference == pytest.approx(expected, abs=1e-15)
        assert row.low <= row.difference <= row.high


def test_pairs_in_the_other_order_say_the_opposite(recipes, compared):
    opposite = {"better": "worse", "worse": "better"}
    columns = ["recipe", "other", "figure"]
    one = summary.pairs(recipes).set_index(columns)
    other = summary.pairs(recipes[::-1]).set_index(columns)
    assert len(one) == len(other) > 0
    for (first, second, figure), row in one.iterrows():
        back = other.loc[(second, first, figure)]
        assert row.difference == -back.difference
        assert (row.low, row.high) == (-back.high, -back.low)
        assert row.verdict == opposite.get(back.verdict, back.verdict)
    assert "better" in set(one.verdict)


def test_more_bits_are_better_in_every_figure(recipes, compared):
    found = summary.pairs(recipes, [("Q8_0", "Q2_K")])
    assert set(found.verdict) == {"better"} and len(found) == len(summary.PAIRED)
    back = summary.pairs(recipes, [("Q2_K", "Q8_0")])
    assert set(back.verdict) == {"worse"}


def test_a_recipe_is_tied_with_itself(recipes, compared):
    for recipe in recipes:
        found = summary.pairs([recipe, named(recipe, "copy")])
        assert set(found.verdict) == {"tied"}
        assert (found[["difference", "low", "high"]] == 0).all(axis=None)


def louder(recipe, noise):
    figures = dict.fromkeys(summary.PAIRED, noise)
    return dataclasses.replace(recipe, result=recipe.result | {"noise": {"figures": figures}})


def test_differences_below_the_noise_of_both_are_tied(recipes):
    loud = [louder(recipe, 1e9) for recipe in recipes]
    assert set(summary.pairs(loud).verdict) == {"tied"}
    found = summary.pairs([louder(recipes[0], 3e-9), louder(recipes[1], 4e-9), *recipes[2:]])
    assert found.noise.iloc[0] == pytest.approx(5e-9)


def some_windows(recipe, path, numbers):
    """A comparison of which only some windows are there."""
    shutil.copy(recipe.positions, path)
    with WindowStore.open(path, writable=True) as store:
        for window in set(range(len(store.done))) - set(numbers):
            store._put("done", window, b"\0")
        store.finish(path)
    return dataclasses.replace(recipe, positions=path)


def test_pairs_are_compared_on_common_windows_only(recipes, compared, tmp_path):
    first = some_windows(recipes[0], tmp_path / "a.h5", range(0, 8))
    second = some_windows(recipes[1], tmp_path / "b.h5", range(3, 12))
    found = summary.pairs([first, second]).set_index("figure").difference
    means = []
    for recipe in recipes[:2]:
        with h5py.File(recipe.positions) as h5:
            rows = {name: h5[name][3:8].astype(float) for name in FIGURES}
        means.append((rows["kld"].mean(), np.median(rows["kld"]), rows["same_top"].mean()))
    expected = np.subtract(*means)
    assert found[["kld_mean", "kld_median", "same_top"]].tolist() == pytest.approx(expected)
    third = some_windows(recipes[1], tmp_path / "c.h5", range(7, 12))
    with pytest.raises(QuernError, match="Q8_0 and Q4_0 were not compared on the same windows"):
        summary.pairs([first, third])


def made_up(recipe, sizes_and_scores):
    """Recipes a, b, … of these sizes and scores."""
    return [
        dataclasses.replace(
            recipe,
            name=name,
            info=dataclasses.replace(recipe.info, tensor_bytes=size),
            result={"figures": {"score": {"value": score}}},
        )
        for name, (size, score) in zip("abcd", sizes_and_scores, strict=False)
    ]


def said(*rows):
    columns = ["recipe", "other", "figure", "verdict"]
    return pd.DataFrame([(a, b, "score", v) for a, b, v in rows], columns=columns)


def test_beaten_by_the_best_that_is_no_larger(recipes):
    some = made_up(recipes[0], [(10, 3.0), (8, 2.0), (8, 1.0)])
    verdicts = said(("a", "b", "worse"), ("a", "c", "worse"), ("b", "c", "worse"))
    assert summary.beaten_by(some, verdicts) == ["c", "c", ""]
    verdicts = said(("b", "a", "better"), ("a", "c", "cannot tell"), ("b", "c", "tied"))
    assert summary.beaten_by(some, verdicts) == ["b", "", ""]


def test_a_larger_recipe_beats_nobody(recipes):
    some = made_up(recipes[0], [(10, 1.0), (8, 2.0)])
    assert summary.beaten_by(some, said(("a", "b", "better"))) == ["", ""]
    some = made_up(recipes[0], [(8, 1.0), (8, 2.0)])
    assert summary.beaten_by(some, said(("a", "b", "better"))) == ["", "a"]


def test_verdicts_of_other_figures_beat_nobody(recipes):
    some = made_up(recipes[0], [(8, 2.0), (8, 1.0)])
    verdicts = pd.concat(
        [said(("a", "b", "tied")), said(("a", "b", "worse")).assign(figure="kld_mean")]
    )
    assert summary.beaten_by(some, verdicts) == ["", ""]


@pytest.fixture
def outputs(recipes, compared, tmp_path):
    """All that is written, with two imatrices."""
    imatrices = {
        "wiki": {"tokens": 12345, "noise_median": 0.0234, "unreached": {}},
        "code": {"tokens": 99, "noise_median": None, "unreached": {"blk.0.x.weight": 3}},
    }
    paths = {"csv": "t.csv", "pairs_csv": "p.csv", "markdown_path": "t.md", "picture": "t.png"}
    paths = {key: tmp_path / name for key, name in paths.items()}
    said = {"Q9_9": "why it is not there."}, "some model", ["missing <x>, using: 'default'"]
    summary.write(recipes, imatrices, *said, **paths)
    return paths


def test_tables_are_written_whole(outputs, recipes, compared):
    frame = summary.table(recipes)
    found = pd.read_csv(outputs["csv"])
    assert found.iloc[-1][["recipe", "failed"]].tolist() == ["Q9_9", "why it is not there."]
    made = found[found.failed.isna()].drop(columns=["beaten_by", "failed"])
    made["imatrix"] = made.imatrix.fillna("none")
    pd.testing.assert_frame_equal(made, frame, check_dtype=False)
    text = outputs["markdown_path"].read_text()
    assert "**`Q9_9` failed**: why it is not there." in text
    assert "\n**llama.cpp warns of the unquantized model**: `missing <x>, using: 'def" in text
    pairs = pd.read_csv(outputs["pairs_csv"])
    pd.testing.assert_frame_equal(pairs, summary.pairs(recipes), check_dtype=False)
    assert outputs["picture"].read_bytes().startswith(b"\x89PNG")


def test_markdown_has_a_row_for_each_recipe(outputs, recipes):
    text = outputs["markdown_path"].read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    head, rule, *rows = rows
    assert [row[0] for row in rows] == [r.name for r in recipes]
    assert {len(row) for row in rows} == {len(head)} == {len(rule)}
    for row, recipe in zip(rows, recipes, strict=True):
        cells, figures = dict(zip(head, row, strict=True)), recipe.result["figures"]
        assert cells["kld_mean"] == f"{figures['kld_mean']['value']:.6f}"
        low, high = map(float, cells["score 95 %"].split(" – "))
        assert low == pytest.approx(figures["score"]["low"], abs=6e-6)
        assert high == pytest.approx(figures["score"]["high"], abs=6e-6)
        assert int(cells["bytes"].replace(",", "")) == recipe.info.file_bytes
    assert text.startswith("# some model\n")
    assert "over 12 windows" in text


def test_markdown_tells_of_every_imatrix(outputs):
    text = outputs["markdown_path"].read_text()
    assert (
        "Imatrix wiki: 12,345 tokens, importances known to 2.3% (median over tensors); "
        "every weight was reached." in text
    )
    assert "Imatrix code: 99 tokens; **not reached** (number of matrices): blk.0.x.weight (3)." in (
        text
    )


def computed_by(recipe, **origin):
    provenance = recipe.result["provenance"] | origin
    return dataclasses.replace(recipe, result=recipe.result | {"provenance": provenance})


def test_several_builds_are_said_in_the_table(recipes):
    own = recipes[0].result["provenance"]["computed_by"]
    assert summary.builds(recipes) == ""
    first, *rest = recipes
    other = [computed_by(first, computed_by="1.0+abc on some GPU"), *rest]
    assert f"`{first.name}`: 1.0+abc on some GPU" in summary.builds(other)
    assert f"the baseline, `Q4_0`, `Q2_K`: {own}" in summary.builds(other)
    imported = [computed_by(r, baseline_computed_by="") for r in recipes]
    assert "the baseline: a build that is not known" in summary.builds(imported)


def test_unequal_sizes_of_one_type_are_said(recipes, tmp_path):
    """llama.cpp chooses other types with an imatrix, so the imatrix is not all that differs."""
    q8, q4, _ = recipes
    pair = [named(q8, "Q4_X+wiki"), named(q4, "Q4_X"), named(q8, "Q4_X~exact+wiki")]
    notes = summary._notes(pair)
    assert notes.count("Unequal sizes of `Q4_X`") == 1
    assert f"{q4.info.bits_per_weight:.3f} for `Q4_X`" in notes
    assert "Unequal" not in summary._notes(recipes)
    difference = summary.pairs([q8, q4]).bytes
    assert set(difference) == {q8.info.tensor_bytes - q4.info.tensor_bytes}
