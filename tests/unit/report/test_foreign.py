"""Mine against theirs: which recipes are named, and what is said of them."""

import dataclasses

import pytest

from quern.report import foreign, summary
from quern.report.pairs import Differences


@pytest.fixture
def recipes(compared):
    """Q8_0 and Q2_K of ours, Q4_0 of somebody else."""
    entries = [entry | {"foreign": entry["name"] == "Q4_0"} for entry in compared]
    return summary.read(entries)


def test_the_sentences_have_the_figures_of_the_pairs(recipes):
    pairs = summary.pairs(recipes)
    said = foreign.against(recipes, pairs)
    assert said.startswith("\n## Mine against theirs\n\n**`Q4_0`**")
    assert "no more bytes is `Q2_K`" in said and "not credibly worse is `Q8_0`" in said
    own = Differences(pairs, "score").of("Q2_K", "Q4_0")
    assert own.verdict == "worse" and str(own) in said
    back = Differences(pairs, "score").of("Q4_0", "Q2_K")
    assert back == (-own.value, -own.high, -own.low, "better")


def test_nothing_of_ours_is_small_enough(recipes):
    some = [r for r in recipes if r.name != "Q2_K"]
    said = foreign.against(some, summary.pairs(some))
    assert "Every recipe is larger." in said


def test_without_foreign_models_there_is_no_section(recipes):
    own = [dataclasses.replace(r, foreign=False) for r in recipes]
    assert foreign.against(own, summary.pairs(own)) == ""
