"""Windows that are chosen, against all of them in turn."""

import csv
from itertools import combinations

import numpy as np
import pytest

from quern import QuernError, files
from quern.tokens import chosen


@pytest.fixture
def table(tmp_path):
    rows = [(7, 0.5), (2, 0.1), (4, 0.9), (0, 0.5), (9, 0.2)]
    with (
        files.replacing(tmp_path / "c.csv") as temporary,
        open(temporary, "w", newline="") as file,
    ):
        csv.writer(file).writerows([("window", "kld_mean", "score"), *((*r, 1.0) for r in rows)])
    return tmp_path / "c.csv", dict(rows)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("which", ["highest", "lowest"])
def test_no_other_windows_have_a_higher_or_lower_sum(table, count, which):
    path, figures = table
    found = chosen.by_divergence(path, count, which)
    assert len(set(found.tolist())) == count and (np.diff(found) > 0).all()
    sums = [sum(map(figures.get, some)) for some in combinations(figures, count)]
    best = max(sums) if which == "highest" else min(sums)
    assert sum(figures[w] for w in found.tolist()) == pytest.approx(best)


def test_of_ties_the_first_is_taken(table):
    assert chosen.by_divergence(table[0], 2, "highest").tolist() == [0, 4]


def test_more_windows_at_random_hold_those_of_fewer():
    few, more = (set(chosen.at_random(50, k, 3, "pool").tolist()) for k in (5, 20))
    assert len(few) == 5 and few < more <= set(range(50))
    assert few == set(chosen.at_random(50, 5, 3, "pool").tolist())
    assert few != set(chosen.at_random(50, 5, 4, "pool").tolist())


def test_too_few_windows_and_no_table(table, tmp_path):
    with pytest.raises(QuernError, match="has 5 windows, fewer than 6"):
        chosen.by_divergence(table[0], 6, "highest")
    with pytest.raises(QuernError, match="pool has 3 windows, fewer than 4"):
        chosen.at_random(3, 4, 0, "pool")
    with files.replacing(tmp_path / "d.csv") as temporary:
        temporary.write_text("window,score\n1,2\n")
    with pytest.raises(QuernError, match="no table of windows"):
        chosen.by_divergence(tmp_path / "d.csv", 1, "highest")
    table[0].write_text(table[0].read_text().replace("0.9", "0.0"))
    with pytest.raises(QuernError, match=r"c\.csv is not what was written"):
        chosen.by_divergence(table[0], 2, "highest")
