"""Compensated rounding against float64, brute force and its own claims."""

import itertools

import numpy as np
import pytest

from quern import QuernError, llama
from quern.rounding import Rows, round_rows
from quern.rounding.compensated import STRENGTHS, choose, compensate
from quern.rounding.grids import GRIDS
from quern.rounding.kernels.compensation import FACTORS, Factors, descend, feed_back
from quern.rounding.layouts import CODED
from quern.rounding.moment import MomentHalves, factor, loss, shrink


def correlated(n, tokens, seed=0):
    """A second moment of inputs that depend on each other, float64 [n, n]."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((n, n // 4)) * np.exp(rng.normal(0, 0.7, (n, 1)))
    x = rng.standard_normal((tokens, n // 4)) @ mixing.T + 0.3 * rng.standard_normal((tokens, n))
    return (x.T @ x / tokens).astype(np.float32)


def weights(rows, n, seed=1):
    return np.random.default_rng(seed).standard_normal((rows, n)).astype(np.float32)


def values_of(kind, raw, rows):
    return llama.dequantize_rows(kind, raw).reshape(rows, -1)


def fed_back(w, factored, scale):
    """Codes and errors of rows rounded to Q4_0's levels with this scale for all."""
    rows, n = w.shape
    one = np.full((rows, n // 32), scale, np.float32)
    none = np.zeros_like(one)
    a, m, errors = (np.empty_like(w) for _ in range(3))
    codes = np.empty(w.shape, np.uint8)
    levels, factors = CODED["Q4_0"].used, Factors(*np.ones(3, np.float32), none[0, :0])
    feed_back(
        *(w.copy(), FACTORS, 32, one, none + 1, none, none, factors),
        *(levels, levels[1:] - 0.5, True, factored.feedback, factored.costs, a, m, codes, errors),
    )
    return a, levels[codes], errors


@pytest.mark.parametrize("strength", [0.0, 0.05, 1.0])
def test_factors_are_those_of_the_shrunk_moment(strength):
    moment = correlated(64, 4000)
    found = factor(shrink(moment, strength))
    shrunk = moment + strength * np.diag(np.diag(moment))
    np.testing.assert_allclose(found.moment, shrunk, rtol=1e-6)
    # The inverse of H is Uᵀ U, and U's rows divided by its diagonal are what is fed back.
    inverse = np.linalg.cholesky(np.linalg.inv(shrunk)).T
    expected = inverse / np.diag(inverse)[:, None]
    np.testing.assert_allclose(found.feedback, expected, atol=2e-4)
    np.testing.assert_allclose(found.costs, 1 / np.diag(inverse) ** 2, rtol=1e-4)


def test_the_loss_is_that_of_the_columns_after_feedback():
    """Σ eᵀ H e = Σ R_ii² δ_i², whatever is chosen."""
    n, rows = 32, 7
    moment, w = correlated(n, 900), weights(rows, n)
    factored = factor(shrink(moment, 0.1))
    a, chosen, errors = fed_back(w, factored, 0.25)
    e = w - a * chosen
    total = loss(e, factored.moment.astype(np.float64))
    assert total == pytest.approx((errors.astype(np.float64) ** 2 @ factored.costs).sum(), rel=1e-4)


def test_without_correlation_each_weight_goes_to_its_nearest_level():
    n, rows = 32, 5
    w = weights(rows, n)
    factored = factor(np.diag(np.random.default_rng(0).uniform(1, 2, n)).astype(np.float32))
    a, chosen, _ = fed_back(w, factored, 0.25)
    levels = CODED["Q4_0"].used
    nearest = np.abs(w[..., None] - a[..., None] * levels).argmin(2)
    assert (chosen == levels[nearest]).all() and (np.abs(a) == 0.25).all()


def test_descent_ends_where_no_single_move_helps_and_never_rises():
    n, rows = 8, 40
    moment, w = correlated(n, 300).astype(np.float32), weights(rows, n)
    levels = np.arange(-2, 2, dtype=np.float32)
    a = np.full((rows, n), 0.8, np.float32)
    codes = np.abs(w[..., None] - a[..., None] * levels).argmin(2).astype(np.uint8)

    def losses(codes):
        e = (w - a * levels[codes]).astype(np.float64)
        return np.einsum("ri,ij,rj->r", e, moment.astype(np.float64), e)

    before = losses(codes)
    g, diagonal = (w - a * levels[codes]) @ moment, np.ascontiguousarray(np.diag(moment))
    for _ in range(20):
        if not descend(g, a, levels, levels[1:] - 0.5, True, moment, diagonal, codes).any():
            break
    after = losses(codes)
    assert (after <= before * (1 + 1e-6)).all() and after.sum() < 0.9 * before.sum()
    for row, column in itertools.product(range(rows), range(n)):
        for code in range(len(levels)):
            moved = codes.copy()
            moved[row, column] = code
            assert losses(moved)[row] >= after[row] - 1e-4 * before[row]
    # Against all there are: what descent misses is bounded here.
    everything = np.array(list(itertools.product(range(4), repeat=n)), np.uint8)
    for row in range(3):
        e = (w[row] - 0.8 * levels[everything]).astype(np.float64)
        best = np.einsum("ri,ij,rj->r", e, moment.astype(np.float64), e).min()
        assert best <= after[row] * (1 + 1e-6)


@pytest.mark.parametrize("kind", CODED)
def test_the_loss_is_lower_than_that_of_importance(kind):
    n, rows = 512, 24
    moment, w = correlated(n, 6000), weights(rows, n)
    factored = factor(shrink(moment, 0.05))
    raw = compensate(kind, Rows(w), factored, threads=2)
    plain = round_rows(kind, "importance", Rows(w, np.diag(moment).astype(np.float32)))
    assert raw.shape == plain.shape and raw.dtype == np.uint8
    ours, theirs = (loss(w - values_of(kind, r, rows), moment) for r in (raw, plain))
    assert ours < 0.9 * theirs
    again = compensate(kind, Rows(w), factored, threads=1)
    assert (again == raw).all()
    blocks = CODED[kind].unpack(raw.reshape(-1, CODED[kind].bytes))
    assert (CODED[kind].pack(blocks) == raw.reshape(-1, CODED[kind].bytes)).all()


def test_rows_that_are_no_whole_panels():
    """Rows of 576, as SmolLM2's: two panels and a quarter."""
    moment, w = correlated(576, 6000), weights(8, 576)
    raw = compensate("Q4_0", Rows(w), factor(shrink(moment, 0.05)))
    plain = round_rows("Q4_0", "importance", Rows(w, np.diag(moment).astype(np.float32)))
    ours, theirs = (loss(w - values_of("Q4_0", r, 8), moment) for r in (raw, plain))
    assert ours < 0.8 * theirs


def test_the_strength_is_judged_by_the_other_half():
    """With few tokens a moment is believed less, and not at all where the halves disagree."""
    n, w = 256, weights(32, 256)
    same = correlated(n, 50_000, seed=3)
    own = np.diag(same).astype(np.float32)
    sure = choose("Q4_0", Rows(w, own), MomentHalves(same, same))
    assert sure.strength == min(STRENGTHS) and sure.ratio < 0.8
    rng = np.random.default_rng(0)
    x = rng.standard_normal((12, n)).astype(np.float32)
    unlike = MomentHalves(x.T @ x / 12, np.diag(np.diag(same)))
    noise = choose("Q4_0", Rows(w, own), unlike)
    assert noise.strength is None and noise.ratio == 1


def test_columns_that_were_never_read():
    moment = correlated(64, 500)
    moment[5] = moment[:, 5] = 0
    found = factor(shrink(moment, 0.05))
    assert np.isfinite(found.feedback).all() and found.moment[5, 5] == pytest.approx(
        np.diag(moment).mean(), rel=1e-5
    )


@pytest.mark.parametrize("moment", [np.zeros((32, 32)), np.full((32, 32), np.nan)])
def test_a_moment_that_is_none(moment):
    with pytest.raises(QuernError, match="a second moment is not finite, or zero"):
        factor(shrink(moment, 0.05))


@pytest.mark.parametrize("kind", GRIDS)
def test_grids_are_read_and_written_as_ggml_does(kind):
    grid, w = GRIDS[kind], weights(6, 512)
    raw = llama.quantize_rows(kind, w, np.ones(512, np.float32)).reshape(-1, grid.bytes)
    assert (grid.pack(grid.unpack(raw)) == raw).all()
    theirs = llama.dequantize_rows(kind, raw).reshape(-1, 256)
    assert (grid.dequantize(raw).view(np.uint32) == theirs.view(np.uint32)).all()


@pytest.mark.parametrize("kind", GRIDS)
def test_grids_are_improved_by_importances_and_more_by_moments(kind):
    n, rows = 512, 100
    moment, w = correlated(n, 6000), weights(rows, n)
    own = np.diag(moment).astype(np.float32)
    start = llama.quantize_rows(kind, w, own)
    given = Rows(w, own, start)
    plain = round_rows(kind, "importance", given)
    found = compensate(kind, given, shrink(moment, 0.05))
    again = compensate(kind, given, shrink(moment, 0.05), threads=2)
    assert (found == again).all() and found.shape == plain.shape == start.shape
    errors = [w - values_of(kind, raw, rows) for raw in (start, plain, found)]
    weighed = [float((e.astype(np.float64) ** 2 * own).sum()) for e in errors]
    losses = [loss(e, moment) for e in errors]
    assert weighed[1] < 0.97 * weighed[0]
    assert losses[2] < 0.7 * losses[1]
    with pytest.raises(QuernError, match=r"from what llama\.cpp made of it"):
        round_rows(kind, "importance", Rows(w, own))
