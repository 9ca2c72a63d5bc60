"""Per-position figures against closed forms and an independent float64 reference."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from quern.divergence import position_figures


def reference(base, logits, targets):
    p = np.exp(base - np.logaddexp.reduce(base, axis=1, keepdims=True))
    q = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    rows = np.arange(len(p))
    return {
        "kld": np.array([np.sum(a * (np.log(a) - np.log(b))) for a, b in zip(p, q, strict=True)]),
        "nll_base": -np.log(p[rows, targets]),
        "nll": -np.log(q[rows, targets]),
        "dp": q[rows, targets] - p[rows, targets],
        "same_top": p.argmax(1) == q.argmax(1),
    }


@given(st.integers(0, 2**32), st.integers(2, 3000), st.floats(0.01, 8), st.floats(1e-4, 3))
@settings(max_examples=60, deadline=None)
def test_agrees_with_float64_reference(seed, n_vocab, spread, noise):
    rng = np.random.default_rng(seed)
    base = (rng.standard_normal((7, n_vocab)) * spread).astype(np.float32)
    logits = (base + rng.standard_normal((7, n_vocab)) * noise).astype(np.float32)
    targets = rng.integers(0, n_vocab, 7)
    found = position_figures(base, logits, targets)
    expected = reference(base.astype(np.float64), logits.astype(np.float64), targets)
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6, atol=1e-9)
    assert (found["kld"] >= 0).all()


def test_two_tokens_closed_form():
    base, logits = np.log([[0.75, 0.25]]), np.log([[0.5, 0.5]])
    found = position_figures(base, logits, np.array([0]))
    np.testing.assert_allclose(found["kld"], 0.75 * np.log(1.5) + 0.25 * np.log(0.5))
    np.testing.assert_allclose(found["dp"], -0.25)


def test_equal_logits_diverge_by_nothing():
    logits = np.random.default_rng(0).standard_normal((300, 1000)).astype(np.float32) * 9
    found = position_figures(logits, logits, np.zeros(300, int))
    assert (found["kld"] == 0).all()
    assert found["same_top"].all()


def test_a_shift_of_all_logits_does_not_count():
    logits = np.random.default_rng(0).standard_normal((4, 1000))
    found = position_figures(logits, logits + 1000, np.zeros(4, int))
    assert found["kld"].max() < 1e-20


def test_tiny_probabilities_are_not_clipped():
    base = np.array([[0.0, -60.0]])
    logits = np.array([[0.0, -90.0]])
    expected = np.exp(-60.0) * 30 - np.exp(-60.0) + np.exp(-90.0)
    found = position_figures(base, logits, np.array([1]))
    np.testing.assert_allclose(found["kld"], expected, rtol=1e-9)
    np.testing.assert_allclose(found["nll"], 90.0)
