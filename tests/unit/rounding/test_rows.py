"""Rounding: the optimum is found, whatever the block, and every type's bytes say so."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from quern import QuernError, llama, rounding
from quern.rounding import Rows
from quern.rounding.layouts import CODED
from quern.rounding.structures import ListedScales, OneScale
from references import (
    errors_of,
    free_errors,
    least_errors,
    least_joint_errors,
    least_line_errors,
    levels_of,
    some_values,
    weights_of,
)

KINDS = sorted(CODED)
LISTED = [kind for kind in KINDS if issubclass(CODED[kind], ListedScales)]
SINGLE = [kind for kind in KINDS if issubclass(CODED[kind], OneScale)]
JOINT = [kind for kind in KINDS if CODED[kind].sub_blocks and kind not in LISTED]
COVERED = [(k, r) for k in KINDS for r in rounding.ROUNDINGS if rounding.covers(r, k)]
LINES = {  # the error at most, over ggml's and over that of lines that no factors bind
    "Q2_K": (0.94, 1.08), "Q4_K": (0.95, 1.03), "Q5_K": (0.88, 1.13),
    "Q4_1": (0.98, 1.03), "Q5_1": (0.97, 1.04),
}  # fmt: skip


def least(kind, values, importances):
    size = CODED[kind].weights
    w = weights_of(kind, values, importances).reshape(-1, size)
    return least_errors(values.astype(np.float64).reshape(-1, size), w, levels_of(kind))


# Distributions of weights; with the rarer ones these tests take most of the room's time.
DRAWS = ["normal", *(pytest.param(draw, marks=pytest.mark.slow) for draw in ("laplace", "t4"))]


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("kind", SINGLE)
def test_exact_is_the_optimum_of_20000_blocks(kind, draw):
    count = 7_000 if kind == "Q8_0" else 20_000  # of each distribution; its reference is slow
    values, importances = some_values((count // 8, 8 * CODED[kind].weights), draw)
    raw = rounding.round_rows(kind, "exact", Rows(values, importances))
    best = least(kind, values, importances)
    # What a scale costs that is off as float16, by up to 2⁻¹²; it only shows in Q8_0.
    w = weights_of(kind, values, importances).reshape(len(best), -1)
    room = (w * values.reshape(w.shape).astype(np.float64) ** 2).sum(1) * 2.0**-22
    room *= kind == "Q8_0"
    found = np.minimum(
        errors_of(kind, values, importances, raw),
        free_errors(kind, values, importances, raw),
    )
    assert (found >= best * (1 - 1e-6)).all()
    close = found <= best * (1 + 1e-4) + room
    assert close.mean() >= 0.995
    assert found.sum() <= best.sum() * (1 + 1e-5) + room.sum()


@given(
    x=arrays.arrays(np.float32, (1, 32), elements=st.integers(-256, 256)),
    w=arrays.arrays(np.float32, 32, elements=st.integers(0, 64)),
    kind=st.sampled_from(["Q4_0", "Q5_0", "IQ4_NL", "Q8_0"]),
)
@settings(max_examples=300, deadline=None)
def test_exact_is_the_optimum_of_any_block(x, w, kind):
    x, w = x / 64, w / 8
    raw = rounding.round_rows(kind, "exact", Rows(x, w))
    power = (weights_of(kind, x, w) * x.astype(np.float64) ** 2).sum()
    found = free_errors(kind, x, w, raw)[0]
    # float32 knows the error to a few parts in 10⁷ of Σ w·x²; float16 the scale to 2⁻¹².
    assert found <= least(kind, x, w)[0] * (1 + 1e-3) + 2e-6 * power


@given(
    x=arrays.arrays(np.float64, 4, elements=st.floats(-1, 1, width=16)),
    w=arrays.arrays(np.float64, 4, elements=st.floats(0.125, 8, width=16)),
)
@settings(max_examples=100, deadline=None)
def test_the_reference_is_brute_force_over_all_codes(x, w):
    levels = np.array([-2.0, -1, 0, 1])
    q = np.array(list(itertools.product(levels, repeat=4)))
    b = (w * q * q).sum(1)
    f = np.divide((w * q * x).sum(1) ** 2, b, out=np.zeros(len(q)), where=b > 0)
    found = least_errors(x[None], w[None], levels)[0]
    assert found == pytest.approx((w * x * x).sum() - f.max(), abs=1e-12)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("kind, limit", [("Q3_K", 0.0025), ("IQ4_XS", 0.007), ("Q6_K", 0.018)])
def test_joint_search_comes_near_the_joint_optimum(kind, limit, draw):
    layout = CODED[kind]
    values, importances = some_values((4, 2560), draw)
    raw = rounding.round_rows(kind, "exact", Rows(values, importances))
    x = values.astype(np.float64).reshape(-1, 256)
    w = weights_of(kind, values, importances).reshape(-1, 256)
    ends = np.linspace(0.4, 1.3, 120) * layout.factor_range[1]
    scales = np.abs(x).max(1)[:, None] / np.abs(layout.levels).max() / ends
    best = least_joint_errors(x, w, levels_of(kind), scales, *layout.factor_range, layout.size)
    assert errors_of(kind, values, importances, raw).sum() <= best.sum() * (1 + limit)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("kind", LINES)
def test_types_with_minima_are_rounded_better_than_by_ggml(kind, draw):
    over_ggml, over_free = LINES[kind]
    layout = CODED[kind]
    values, importances = some_values((8, 2560), draw)
    found, theirs = (
        errors_of(kind, values, importances, raw).sum()
        for raw in (
            rounding.round_rows(kind, "exact", Rows(values, importances)),
            llama.quantize_rows(kind, values, importances),
        )
    )
    size = layout.size
    w = weights_of(kind, values, importances).reshape(-1, size)
    x = values.astype(np.float64).reshape(-1, size)
    if not layout.sub_blocks:  # whose minima may be below 0
        x = x - x.max(1)[:, None]
    free = least_line_errors(x, w, layout.levels[-1]).sum()
    assert found <= over_ggml * theirs
    assert free * 0.999 <= found <= over_free * free


@pytest.mark.parametrize("draw", ["normal", "t4"])
@pytest.mark.parametrize("kind", LISTED)
def test_scales_of_a_list_are_the_best_of_all(kind, draw):
    layout = CODED[kind]
    values, importances = some_values((8, 512), draw)
    values *= np.float32(0.05)
    raw = rounding.round_rows(kind, "exact", Rows(values, importances))
    size = layout.size
    x = values.astype(np.float64).reshape(-1, size)
    w = weights_of(kind, values, importances).reshape(-1, size)
    best = np.full(len(x), np.inf)
    for step in layout.steps[layout.steps > 1e-9].astype(np.float64):
        error = np.abs(x[..., None] - step * levels_of(kind)).min(2)
        best = np.minimum(best, (w * error**2).sum(1))
    found = w * (x - llama.dequantize_rows(kind, raw).reshape(x.shape)) ** 2
    np.testing.assert_allclose(found.sum(1), best, rtol=1e-4)


@pytest.mark.parametrize("with_importances", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_exact_is_never_much_worse_than_the_others(kind, with_importances):
    values, importances = some_values((64, 1024), "t4", seed=3)
    importances = importances if with_importances else None
    ours = errors_of(
        kind, values, importances, rounding.round_rows(kind, "exact", Rows(values, importances))
    )
    others = [
        rounding.round_rows(kind, name, Rows(values, importances))
        for name in ("cumulative", "gradient")
        if rounding.covers(name, kind)
    ]
    for raw in (*others, llama.quantize_rows(kind, values, importances)):
        theirs = errors_of(kind, values, importances, raw)
        assert ours.sum() <= theirs.sum() * (1.001 if kind in SINGLE else 1.003)
        if kind in SINGLE:  # a float16 scale is off by up to 2⁻¹¹
            power = weights_of(kind, values, importances) * values.astype(np.float64) ** 2
            room = power.reshape(len(ours), -1).sum(1) * 2.0**-22
            assert (ours <= theirs * 1.001 + room).all()


@pytest.mark.parametrize("with_importances", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_importance_alone_is_the_weight_of_importance(kind, with_importances):
    values, importances = some_values((64, 1024), "t4", seed=5)
    importances = importances if with_importances else None
    found = {
        name: errors_of(
            *(kind, values, importances),
            rounding.round_rows(kind, name, Rows(values, importances)),
            rounding_name="importance",
        )
        for name in ("importance", "exact")
    }
    llamas = CODED[kind].error_weights
    same = llamas.span == 0 if with_importances else llamas.bare[1] == 0
    assert found["importance"].sum() <= found["exact"].sum() * (1 if same else 0.999)
    if kind in SINGLE and kind != "Q8_0":  # whose float16 scale costs more than that
        w = weights_of(kind, values, importances, "importance").reshape(-1, CODED[kind].weights)
        x = values.astype(np.float64).reshape(w.shape)
        best = least_errors(x, w, levels_of(kind))
        assert found["importance"].sum() <= best.sum() * (1 + 1e-4)


EDGES = {
    "zeros": lambda x: x * 0,
    "an outlier": lambda x: np.where(np.arange(x.shape[1]) == 5, 1, x * 0).astype(np.float32),
    "denormals": lambda x: x * np.float32(1e-42),
    "tiny": lambda x: x * np.float32(2e-5),
    "huge": lambda x: x * np.float32(1e30),
    "a far outlier": lambda x: np.where(np.arange(x.shape[1]) == 7, 1000, x).astype(np.float32),
}


@pytest.mark.parametrize("name", EDGES)
@pytest.mark.parametrize("kind, rounding_name", COVERED)
def test_odd_blocks(kind, rounding_name, name):
    values, importances = some_values((2, 512))
    values = EDGES[name](values)
    importances[::3] = 0  # weights without any importance
    for w in (importances, None, importances * 0):
        raw = rounding.round_rows(kind, rounding_name, Rows(values, w))
        found = llama.dequantize_rows(kind, raw)
        assert np.isfinite(found).all()
        if name in ("zeros", "denormals"):
            assert not found.any()
        elif name == "tiny" and kind not in JOINT:
            assert np.abs(found - values).max() < 1.2e-4
        elif name == "an outlier" and w is None and 0 in CODED[kind].levels:
            # The last level of a proposal's grid, or its factor, may be off.
            assert found[0, 5] == pytest.approx(1, abs=0.035 if rounding_name == "exact" else 0.2)


@pytest.mark.parametrize("kind", KINDS)
def test_threads_do_not_change_a_bit(kind):
    values, importances = some_values((96, 8192))
    one = rounding.round_rows(kind, "exact", Rows(values, importances), threads=1)
    assert (rounding.round_rows(kind, "exact", Rows(values, importances), threads=3) == one).all()


def test_what_cannot_be_rounded_is_an_error():
    values, importances = some_values((2, 512))
    with pytest.raises(QuernError, match="there is no rounding best for Q4_0"):
        rounding.round_rows("Q4_0", "best", Rows(values))
    with pytest.raises(QuernError, match="there is no rounding exact for IQ2_XS"):
        rounding.round_rows("IQ2_XS", "exact", Rows(values))
    with pytest.raises(QuernError, match="no whole blocks"):
        rounding.round_rows("Q4_0", "exact", Rows(values[:, :40]))
    with pytest.raises(QuernError, match="importances do not fit"):
        rounding.round_rows("Q4_0", "exact", Rows(values, importances[:32]))
    values[1, 3] = np.inf
    with pytest.raises(QuernError, match="a weight is not finite"):
        rounding.round_rows("Q4_0", "exact", Rows(values))
    importances[5] = np.nan
    with pytest.raises(QuernError, match="an importance is negative or not finite"):
        rounding.round_rows("Q4_0", "exact", Rows(np.ones((2, 512)), importances))
