"""The ladder, the shards, and how often the stop rule errs."""

import numpy as np
import pytest

from quern import files
from quern.growth.decision import choose, decide
from quern.growth.step import SHOWN, _mean_log_score
from quern.growth.table import table
from quern.measure import statistics


def step(number, ln_score, *gains, exhausted=False):
    """Facts with gains over the steps before, as (value, half width)."""
    return {
        "step": number,
        "ln_score": ln_score,
        "exhausted": exhausted,
        "gains": [
            {"over": i, "value": v, "low": v - w, "high": v + w} for i, (v, w) in enumerate(gains)
        ],
    }


LARGE, SMALL, UNSURE = (0.2, 0.05), (0.002, 0.001), (0.01, 0.05)


@pytest.mark.parametrize(
    ("gains", "reason"),
    [
        ([LARGE], ""),
        ([LARGE, SMALL], ""),
        ([LARGE, SMALL, SMALL], "credibly below 1.00%"),
        ([LARGE, UNSURE, UNSURE], "not credibly above zero"),
        ([LARGE, SMALL, LARGE], ""),
        ([UNSURE, LARGE, UNSURE], ""),
    ],
)
def test_reasons_to_stop(gains, reason):
    steps = [step(0, 0.0)]
    for i, gain in enumerate(gains, 1):
        steps.append(step(i, -0.1 * i, *[LARGE] * (i - 1), gain))
    found = decide(steps, min_gain=0.01, patience=2)
    assert found.stop == bool(reason)
    assert reason in found.reason


def test_it_stops_where_the_pool_or_the_ladder_ends():
    steps = [step(0, 0.0), step(1, -0.2, LARGE, exhausted=True)]
    assert decide(steps, min_gain=0.01, patience=2).reason == "the pool is used up"
    steps[1]["exhausted"] = False
    assert (
        decide(steps, min_gain=0.01, patience=2, last=True).reason == "the largest size is reached"
    )
    assert not decide(steps, min_gain=0.01, patience=2).stop


def test_the_smallest_that_is_not_credibly_worse_than_the_best():
    steps = [
        step(0, 0.0),
        step(1, -0.30, LARGE),
        step(2, -0.31, LARGE, UNSURE),
        step(3, -0.305, LARGE, UNSURE, (-0.005, 0.05)),
    ]
    found = decide(steps, min_gain=0.01, patience=2)
    assert (found.best, found.chosen) == (2, 1)


# --- error rates, on synthetic figures of windows ---------------------------------------------


def grown(rng, gains, windows, noise):
    """Facts of steps whose ln score falls by `gains`, from correlated per-window KLDs."""
    level = np.exp(rng.standard_normal((windows, 1)) * 0.3 - 3)
    common = level * np.exp(rng.standard_normal((windows, 24)) * 1.0)
    steps, made = [], []
    for number, total in enumerate(np.cumsum([0, *gains])):
        wobble = np.exp(rng.standard_normal((windows, 1)) * noise - noise**2 / 2)
        kld = common * np.exp(-total) * wobble
        others = dict.fromkeys(("nll", "nll_base", "dp", "same_top"), np.zeros_like(kld))
        replicates = statistics.Sample({"kld": kld} | others).replicates
        made.append(_mean_log_score([replicates]))
        found = []
        for over, before in enumerate(made[:-1]):
            value, low, high = before.difference(made[-1], "ln_score")
            found.append({"over": over, "value": value, "low": low, "high": high})
        steps.append(
            {
                "step": number,
                "ln_score": made[-1].values["ln_score"],
                "exhausted": False,
                "gains": found,
            }
        )
    return steps


def stops_at(steps, **settings):
    """The step after which growth stops, and what it then chooses."""
    for n in range(1, len(steps) + 1):
        found = decide(steps[:n], last=n == len(steps), **settings)
        if found.stop:
            return n - 1, found.chosen


SETTINGS = {"min_gain": 0.01, "patience": 2}
REPEATS = 60


@pytest.fixture
def fewer_resamples(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 400)
    monkeypatch.setattr(statistics, "PERCENTILES", (99, 95, 90))  # those of the score alone


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.02, 0.1])
def test_gains_that_never_come_stop_growth_at_once(fewer_resamples, noise):
    """Each of two steps errs in 2.5 %, so growth goes on in about 5 % at most."""
    rng = np.random.default_rng(1)
    found = [stops_at(grown(rng, [0] * 4, 60, noise), **SETTINGS) for _ in range(REPEATS)]
    assert np.mean([stop > 2 for stop, _ in found]) <= 0.10
    assert np.mean([chosen > 0 for _, chosen in found]) <= 0.15


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.02, 0.1])
def test_gains_that_last_do_not_stop_it(fewer_resamples, noise):
    rng = np.random.default_rng(2)
    found = [stops_at(grown(rng, [0.15] * 4, 60, noise), **SETTINGS) for _ in range(REPEATS)]
    assert np.mean([stop < 4 for stop, _ in found]) <= 0.05
    assert np.mean([chosen < 4 for _, chosen in found]) <= 0.05


@pytest.mark.slow
def test_gains_that_fade_stop_it_where_they_have_faded(fewer_resamples):
    """True gains of 30, 10, 0.2 and 0.1 %: two steps are worth it, the others are not."""
    rng = np.random.default_rng(3)
    gains = [0.3, 0.1, 0.002, 0.001, 0.0005, 0.0002]
    found = [stops_at(grown(rng, gains, 80, 0.02), **SETTINGS) for _ in range(REPEATS)]
    stops = np.array([stop for stop, _ in found])
    assert np.mean(stops < 4) == 0
    assert np.mean(stops > 4) <= 0.15
    assert np.mean([chosen == 2 for _, chosen in found]) >= 0.85


def test_a_choice_keeps_its_numbers(tmp_path):
    figures = {"Q2_K": {n: {"value": 1.0, "low": 0.9, "high": 1.1} for n in SHOWN}}
    extra = {
        "windows": 2, "tokens": 1024, "noise_median": None, "evaluation_windows": 9,
        "figures": figures,
    }  # fmt: skip
    paths = []
    for i, facts in enumerate([step(0, 0.0), step(1, -0.2, LARGE), step(2, -0.21, LARGE, SMALL)]):
        paths.append(tmp_path / f"{i}.json")
        files.write_json(paths[-1], facts | extra)
    result = choose(paths, min_gain=0.01, patience=2)
    assert result["decision"]["reason"] == "the largest size is reached"
    assert result["decision"]["chosen"] == 2
    text = table(result)
    assert "18.13% [13.93%, 22.12%]" in text and "chosen" in text
