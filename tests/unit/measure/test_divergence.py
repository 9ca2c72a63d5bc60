"""Per-position figures against closed forms and an independent float64 reference."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import references
from quern.measure import divergence

POOL = ThreadPoolExecutor(2)


def position_figures(base, logits, targets):
    base, logits = np.asarray(base, np.float32), np.asarray(logits, np.float32)
    return divergence.position_figures(base, logits, np.asarray(targets), POOL)


def assert_exact(base, logits, targets):
    found, expected = (
        position_figures(base, logits, targets),
        references.divergence(base, logits, targets),
    )
    np.testing.assert_allclose(found["kld"], expected["kld"], rtol=1e-6, atol=1e-9)
    for name in ("nll", "nll_base"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6, atol=3e-7)
    np.testing.assert_allclose(found["dp"], expected["dp"], atol=3e-7)
    assert (found["same_top"] == expected["same_top"]).all()
    assert (found["kld"] >= 0).all()


@given(
    seed=st.integers(0, 2**32),
    n_vocab=st.integers(2, 9000),
    spread=st.floats(0.01, 30),
    noise=st.floats(1e-5, 10),
    shift=st.floats(-50, 50),
)
@settings(max_examples=150, deadline=None)
def test_agrees_with_float64_reference(seed, n_vocab, spread, noise, shift):
    rng = np.random.default_rng(seed)
    base = rng.standard_normal((7, n_vocab)) * spread
    logits = base + rng.standard_normal((7, n_vocab)) * noise + shift
    assert_exact(base, logits, rng.integers(0, n_vocab, 7))


@pytest.mark.parametrize("gap", [0.001, 0.5, 1.0, 1.99, 2.0, 2.01, 5, 20, 60, 85])
@pytest.mark.parametrize("sign", [-1, 1])
def test_one_token_far_off(gap, sign):
    """A single token carries the divergence, on both sides of where the series ends."""
    base = np.zeros((1, 40))
    logits = base.copy()
    logits[0, 3] += sign * gap
    assert_exact(base, logits, [3])


def test_two_tokens_closed_form():
    found = position_figures(np.log([[0.75, 0.25]]), np.log([[0.5, 0.5]]), [0])
    np.testing.assert_allclose(found["kld"], 0.75 * np.log(1.5) + 0.25 * np.log(0.5), rtol=1e-6)
    np.testing.assert_allclose(found["dp"], -0.25, rtol=1e-6)


def test_equal_logits_diverge_by_nothing():
    logits = np.random.default_rng(0).standard_normal((300, 1000)) * 9
    found = position_figures(logits, logits, np.zeros(300, int))
    assert (found["kld"] == 0).all()
    assert found["same_top"].all()


def test_tiny_probabilities_are_not_clipped():
    expected = np.exp(-60.0) * 20 - np.exp(-60.0) + np.exp(-80.0)
    found = position_figures([[0.0, -60.0]], [[0.0, -80.0]], [1])
    np.testing.assert_allclose(found["kld"], expected, rtol=1e-6)
    np.testing.assert_allclose(found["nll"], 80.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", ["base", "logits"])
def test_a_value_that_is_not_finite_shows(value, which):
    rows = {name: np.zeros((3, 5000), np.float32) for name in ("base", "logits")}
    rows[which][1, 4321] = value
    found = position_figures(**rows, targets=np.zeros(3, int))["kld"]
    assert np.isfinite(found).tolist() == [True, False, True]


def test_the_same_bits_by_any_threads_and_neighbours():
    rng = np.random.default_rng(0)
    base = rng.standard_normal((33, 5000)).astype(np.float32)
    logits = base + rng.standard_normal(base.shape).astype(np.float32)
    targets = rng.integers(0, 5000, 33)
    whole = position_figures(base, logits, targets)
    with ThreadPoolExecutor(1) as pool:
        for rows in (slice(0, 1), slice(5, 12), slice(12, 33)):
            part = divergence.position_figures(base[rows], logits[rows], targets[rows], pool)
            for name, values in part.items():
                assert (values == whole[name][rows]).all()
