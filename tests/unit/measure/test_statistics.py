"""Figures and their intervals: against numpy on plainly resampled data, and by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import references
from quern.measure import statistics
from quern.measure.statistics import Sample, composite_score


def figures(kld, seed=0):
    kld = np.asarray(kld, float)
    rng = np.random.default_rng(seed)
    base = rng.exponential(2, kld.shape)
    return {
        "kld": kld,
        "nll": base + rng.standard_normal(kld.shape) * np.sqrt(kld),
        "nll_base": base,
        "dp": rng.standard_normal(kld.shape) * kld,
        "same_top": (kld < np.median(kld)).astype(np.uint8),
    }


@given(st.integers(0, 2**32), st.integers(2, 9), st.integers(3, 400), st.booleans())
@settings(max_examples=40, deadline=None)
def test_weighted_figures_are_those_of_the_resampled_windows(seed, n, positions, ties):
    rng = np.random.default_rng(seed)
    kld = rng.lognormal(-4, 1, (n, positions))
    f = figures(np.round(kld, 2) if ties else kld, seed)
    weights = rng.multinomial(n, np.full(n, 1 / n), size=3)
    found = Sample(f).weigh(weights.astype(float))
    assert set(found) == {*statistics.FIGURES, "kld_min", "kld_max", "dp_min", "dp_max"}
    for i, row in enumerate(weights):
        drawn = {name: np.repeat(values, row, axis=0).ravel() for name, values in f.items()}
        for name, expected in references.summary_figures(drawn).items():
            np.testing.assert_allclose(found[name][i], expected, rtol=1e-7, atol=1e-12)


def test_a_mask_leaves_positions_and_empty_windows_out():
    f = figures(np.random.default_rng(0).lognormal(-4, 1, (6, 50)))
    mask = np.random.default_rng(1).random((6, 50)) < 0.4
    mask[2] = False
    sample = Sample(f, mask)
    assert (sample.n_windows, sample.n_positions) == (5, mask.sum())
    expected = references.summary_figures({name: values[mask] for name, values in f.items()})
    for name, value in sample.values().items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-7)


def test_per_window_figures_are_those_of_the_windows():
    f = figures(np.random.default_rng(0).lognormal(-4, 1, (4, 60)))
    found = Sample(f).per_window()
    for i in range(4):
        for name, expected in references.summary_figures({k: v[i] for k, v in f.items()}).items():
            np.testing.assert_allclose(found[name][i], expected, rtol=1e-7)


def test_score_of_a_constant_is_ten_to_two_thirds_of_it():
    found = Sample(figures(np.full((2, 100), 0.2))).values()
    assert found["score"] == pytest.approx(0.2 * 10 ** (2 / 3))


def test_uncertainties_are_the_standard_errors_of_independent_positions():
    f = figures(np.random.default_rng(0).lognormal(-4, 1, (9, 100)))
    found = Sample(f).uncertainties()
    n = 900
    assert found["kld_mean"] == pytest.approx(f["kld"].std() / np.sqrt(n - 1))
    ratio = (f["nll"] - f["nll_base"]).std() / np.sqrt(n - 1)
    assert found["ln_ppl_ratio"] == pytest.approx(ratio)
    assert found["ppl"] == pytest.approx(np.exp(f["nll"].mean()) * f["nll"].std() / np.sqrt(n - 1))


COVERED = ("kld_mean", "kld_median", "kld_p95", "score")


def correlated(rng, windows, positions):
    """Heavy-tailed KLDs that share a level within each window."""
    level = rng.standard_normal((windows, 1)) * 0.5
    return np.exp(level + rng.standard_normal((windows, positions)) * 1.2 - 4)


@pytest.mark.slow
def test_intervals_cover_as_often_as_they_say(monkeypatch):
    """95 % intervals over 100 windows hold the truth in 92.5 to 97.5 % of 600 repetitions."""
    monkeypatch.setattr(statistics, "RESAMPLES", 600)
    monkeypatch.setattr(statistics, "PERCENTILES", (99, 95, 90))  # those of the score alone
    rng = np.random.default_rng(7)
    truth = np.quantile(correlated(rng, 60_000, 32), [0.5, 0.9, 0.95, 0.99])
    expected = {
        "kld_mean": np.exp(-4 + (0.5**2 + 1.2**2) / 2),
        "kld_median": truth[0],
        "kld_p95": truth[2],
        "score": composite_score(*truth),
    }
    repeats, held = 600, dict.fromkeys(COVERED, 0)
    for _ in range(repeats):
        kld = correlated(rng, 100, 32)
        zeros = np.zeros_like(kld)
        others = dict.fromkeys(("nll", "nll_base", "dp", "same_top"), zeros)
        replicates = Sample({"kld": kld} | others).replicates
        for name in COVERED:
            low, high = replicates.interval(name)
            held[name] += low <= expected[name] <= high
    for name, count in held.items():
        assert 0.925 <= count / repeats <= 0.975, (name, count / repeats)


def test_paired_differences_see_what_separate_intervals_do_not():
    rng = np.random.default_rng(0)
    kld = correlated(rng, 60, 64)
    better = kld * np.exp(rng.standard_normal(kld.shape) * 0.05 - 0.03)
    one, other = (Sample(figures(x)).replicates for x in (better, kld))
    value, low, high = one.difference(other, "kld_mean")
    assert value == pytest.approx(better.mean() - kld.mean())
    assert low < value < high < 0
    assert one.interval("kld_mean")[1] > other.interval("kld_mean")[0]


@pytest.mark.parametrize(
    ("low", "high", "value", "noise", "said"),
    [
        (-3, -1, -2, 0.1, "better"),
        (1, 3, 2, 0.1, "worse"),
        (-1, 3, 1, 0.1, "cannot tell"),
        (-3, -1, -2, 5, "tied"),
        (0, 0, 0, 0, "tied"),
    ],
)
def test_verdicts(low, high, value, noise, said):
    assert statistics.verdict(low, high, value, noise) == said


def test_the_same_sample_gives_the_same_intervals():
    f = figures(np.random.default_rng(0).lognormal(-4, 1, (20, 50)))
    assert statistics.summarize(Sample(f)) == statistics.summarize(Sample(f))
