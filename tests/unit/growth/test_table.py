"""The table of a growth, from numbers made by hand."""

import copy

import numpy as np
import pytest

from quern.growth.table import table


def figure(value):
    return {"value": value, "low": value * 0.9, "high": value * 1.1}


def made_step(number, scores, gain=None, noise=0.05):
    """A step of these scores by type; its last gain is the one to show."""
    gains = [{"over": 0, "value": 9.0, "low": 8.0, "high": 9.5}] * (number - 1)
    if gain:
        gains.append(dict(zip(("value", "low", "high"), gain, strict=True)) | {"over": number - 1})
    return {
        "step": number,
        "windows": 4 << number,
        "tokens": 2048 << number,
        "evaluation_windows": 77,
        "noise_median": noise,
        "gains": gains,
        "figures": {
            kind: {"score": figure(score), "kld_mean": figure(score / 8)}
            for kind, score in scores.items()
        },
    }


@pytest.fixture
def result():
    """Three steps of two types, of which the second one is chosen."""
    half = -np.log1p(-0.5), -np.log1p(-0.25), -np.log1p(-0.75)
    tenth = -np.log1p(-0.1), -np.log1p(0.02), -np.log1p(-0.2)
    return {
        "steps": [
            made_step(0, {"Q2_K": 0.8, "Q4_0": 0.04}, noise=None),
            made_step(1, {"Q2_K": 0.4, "Q4_0": 0.02}, half),
            made_step(2, {"Q2_K": 0.36, "Q4_0": 0.018}, tenth),
        ],
        "decision": {"stop": True, "reason": "the pool is used up", "chosen": 1, "best": 2},
    }


def rows_of(text):
    """Rows as lists of cells, the heading first."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    head, rule, *rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
    assert len(rule) == len(head)
    return [head, *rows]


def test_rows(result):
    head, *rows = rows_of(table(result))
    assert head == [
        *("step", "windows", "tokens", "Q2_K score", "Q2_K KLD", "Q4_0 score", "Q4_0 KLD"),
        *("gain", "imatrix noise", ""),
    ]
    assert rows[0] == [
        *("0", "4", "2,048", "0.80000 [0.72000, 0.88000]", "0.100000"),
        *("0.04000 [0.03600, 0.04400]", "0.005000", "", "", ""),
    ]
    assert rows[1] == [
        *("1", "8", "4,096", "0.40000 [0.36000, 0.44000]", "0.050000"),
        *("0.02000 [0.01800, 0.02200]", "0.002500", "50.00% [25.00%, 75.00%]", "5.00%", "chosen"),
    ]
    assert rows[2][0] == "2" and len(rows) == 3


def test_a_gain_is_a_share_of_the_score_before(result):
    """The last gain counts; below zero the score rose."""
    rows = rows_of(table(result))
    assert [row[7] for row in rows[1:]] == [
        "",
        "50.00% [25.00%, 75.00%]",
        "10.00% [-2.00%, 20.00%]",
    ]


@pytest.mark.parametrize("chosen", [0, 1, 2])
def test_one_step_is_chosen_and_the_sentence_says_which(result, chosen):
    result = copy.deepcopy(result)
    result["decision"]["chosen"] = chosen
    text = table(result)
    assert [row[-1] for row in rows_of(text)[1:]] == [
        "chosen" if k == chosen else "" for k in range(3)
    ]
    assert text.split("\n\n")[1].startswith(
        f"Stopped: the pool is used up. Chosen: step {chosen}, {2048 << chosen:,} tokens, the "
        "smallest that is not credibly worse than the best (step 2).\n"
        "Scores over 77 evaluation windows;"
    )
