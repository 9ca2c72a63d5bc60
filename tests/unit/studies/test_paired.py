"""Differences between rows, held against formulas and against each other."""

import math

import numpy as np
import pytest
from scipy import stats

from quern.measure.statistics import verdict
from quern.studies.paired import Measured, Relative, mean, relative, stands


def measured(value, drawn, units=20, noise=0.0):
    return Measured({"kld_mean": value}, {"kld_mean": np.array(drawn)}, units, {"kld_mean": noise})


@pytest.fixture
def draws():
    rng = np.random.default_rng(1)
    shared = rng.normal(1, 0.1, 500)
    return [shared * rng.normal(1, 0.01, 500) for _ in range(4)]


def test_the_interval_is_student_s_of_the_resampled_ratios(draws):
    a, b = measured(1.1, draws[0]), measured(1.0, draws[1])
    found = relative(a, b, "kld_mean", comparisons=5)
    error = np.std(draws[0] / draws[1] - 1, ddof=1)
    half = stats.t.ppf(1 - 0.05 / 5 / 2, 19) * error
    assert found.value == pytest.approx(0.1)
    assert (found.low, found.high) == pytest.approx((0.1 - half, 0.1 + half))
    assert found.verdict == "worse"
    assert relative(b, a, "kld_mean", 5).verdict == "better"


def test_more_comparisons_widen_the_interval(draws):
    a, b = measured(1.0, draws[0]), measured(1.0, draws[1])
    widths = [relative(a, b, "kld_mean", m) for m in (1, 10, 100)]
    widths = [d.high - d.low for d in widths]
    assert widths == sorted(widths)


def test_what_is_shared_by_both_does_not_widen_it(draws):
    rng = np.random.default_rng(2)
    apart = measured(1.0, rng.normal(1, 0.1, 500))
    paired = relative(measured(1.0, draws[0]), measured(1.0, draws[1]), "kld_mean", 1)
    unpaired = relative(measured(1.0, draws[0]), apart, "kld_mean", 1)
    assert paired.high - paired.low < 0.2 * (unpaired.high - unpaired.low)


def test_seeds_widen_the_interval_of_their_mean(draws):
    values = [1.0, 1.2, 1.1]
    whole = mean([measured(v, d) for v, d in zip(values, draws, strict=False)])
    assert whole.values["kld_mean"] == pytest.approx(1.1)
    assert whole.spread["kld_mean"] == pytest.approx(0.1)
    reference = measured(1.0, draws[3])
    found = relative(whole, reference, "kld_mean", 1)
    of_windows = np.var(np.mean(draws[:3], axis=0) / draws[3], ddof=1)
    of_seeds = 0.1**2 / 3
    total = of_windows + of_seeds
    freedom = total**2 / (of_windows**2 / 19 + of_seeds**2 / 2)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(total)
    assert found.high - found.value == pytest.approx(half)
    other_way = relative(reference, whole, "kld_mean", 1)  # the reference has the seeds
    assert other_way.high - other_way.value == pytest.approx(half / 1.1**2, rel=0.1)


def test_a_difference_within_the_noise_of_both_is_tied(draws):
    a, b = (measured(v, draws[0], noise=0.01) for v in (1.001, 1.0))
    assert relative(a, b, "kld_mean", 1).verdict == "tied"


def test_the_mean_of_one_is_itself(draws):
    one = measured(1.0, draws[0])
    assert mean([one]) is one


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-0.12, -0.02, "it stands"),
        (-0.12, 0.02, "it cannot be told"),
        (-0.04, -0.01, "it does not stand"),
        (0.01, 0.04, "it does not stand"),
        (-0.30, -0.20, "it does not stand"),
    ],
)
def test_a_claim_stands_only_where_the_interval_meets_it_and_excludes_nothing_at_all(
    low, high, said
):
    value = (low + high) / 2
    difference = Relative(value, low, high, 0, verdict(low, high, value, 0))
    assert stands(difference, (-0.14, -0.05)) == said


def test_noise_as_large_as_a_difference_leaves_a_claim_open():
    assert stands(Relative(-0.06, -0.09, -0.03, 0.07, "tied"), (-0.14, -0.05)) == (
        "it cannot be told"
    )
    assert stands(Relative(-0.03, -0.04, -0.02, 0.03, "tied"), (-0.14, -0.05)) == (
        "it cannot be told"
    )
