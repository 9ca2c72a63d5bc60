"""Rounding of the types whose sub-blocks have a minimum beside their factor (Q2_K, Q4_K, Q5_K).

There are too many pairs of a scale and a minimum to bound them all, so this is a search, not a
proof. Each sub-block alone: 32 lines through its range, of which some leave out the ends, are
refined side by side, and the best is kept. Then the block's two scales: 64 pairs are tried, of
which the largest sub-block's wants are 1/most, and finer and finer pairs around the best, as the
float16 values that are stored; each trial rounds every sub-block with the factors that suit it.
"""

import numpy as np
from numba import njit

from ...compiled import STRICT
from .blocks import SMALLEST, as_half, largest, load, weigh
from .offset_lanes import (
    ERROR,
    FACTORS,
    MEAN,
    MINIMUM,
    SCALE,
    TOTAL,
    TRIAL,
    offset_factors,
    refine_fits,
)
from .vectors import LANES

F = np.float32
_ZERO, _ONE = F(0), F(1)
# Lines to begin with: how much wider than the values' range the codes are spread, and how much of
# what they overlap lies below.
SPREADS, BELOW = np.linspace(0.95, 1.5, 8, dtype=F), np.array([0.125, 0.375, 0.625, 0.875], F)
REFINED = 4  # times
# Pairs to begin with: the largest factor and min factor, over the largest there is.
ENDS, MIN_ENDS = np.linspace(0.85, 1.05, LANES, dtype=F), np.linspace(0.85, 1.02, 4, dtype=F)
NEAR, NEARER, TURNS = F(0.01), F(0.6), 6  # relative step of the pairs that are tried then
_LEAST_HALF = F(2**-24)


@njit(**STRICT)
def _best_line(x, w, size, highest, centred, fits):
    """The best scale and minimum of a sub-block, and its mean code."""
    weight, mean = _ZERO, _ZERO
    low, high = _ZERO, x[0]
    for i in range(size):
        weight += w[i]
        mean += w[i] * x[i]
        low, high = min(low, x[i]), max(high, x[i])
    if not high > low:
        return _ZERO, -low, _ZERO
    mean /= weight
    power = _ZERO
    for i in range(size):
        centred[i] = x[i] - mean
        power += w[i] * centred[i] * centred[i]
    column = 0
    for spread in SPREADS:
        s = highest * spread / (high - low)
        for below in BELOW:
            fits[SCALE, column] = s
            overlap = highest * (spread - F(0.98)) * below
            fits[MEAN, column] = max(s * (mean - low) - overlap, s * mean)
            column += 1
    for at in range(0, column, LANES):
        refine_fits(centred, w, 0, size, power, weight, mean, highest, fits, at, REFINED)
    best = np.argmin(fits[ERROR])
    d, code = _ONE / fits[SCALE, best], fits[MEAN, best]
    return d, max(d * code - mean, _ZERO), code


@njit(**STRICT)
def _try_pairs(x, w, size, powers, wanted, highest, most, trials, columns):
    """Try the pairs of scales in the columns; return the best column."""
    for at in range(0, columns, LANES):
        trials[TOTAL, at : at + LANES] = _ZERO
        for b in range(powers.size):
            offset_factors(
                x, w, 2 * b * size, size, powers[b], highest,
                wanted[0, b], wanted[1, b], wanted[2, b], most, trials, at, b,
            )  # fmt: skip
    return np.argmin(trials[TOTAL, :columns])


@njit(**STRICT)
def _storable(x, unit):
    """The nearest float16 above 0 to x · unit, over unit."""
    return max(as_half(x * unit), _LEAST_HALF) / unit


@njit(**STRICT)
def _code(values, first, size, d, minimum, highest, codes):
    """Write the codes nearest to (values + minimum) / d."""
    s = _ONE / d
    for i in range(first, first + size):
        codes[i] = np.uint8(min(max(np.rint((values[i] + minimum) * s), _ZERO), highest))


@njit(**STRICT)
def round_rows(
    values, importances, span, share, bare, size, highest, most,
    scales, factors, min_scales, min_factors, codes,
):  # fmt: skip
    """Round rows, block by block.

    Args:
        values, importances, span, share, bare, codes: as for `single.round_rows`.
        size: weights in a sub-block.
        highest: the highest code, float32.
        most: the largest factor, float32.
        scales, min_scales: float32 [rows, blocks of a row], overwritten with float16 values.
        factors, min_factors: int8 [rows, sub-blocks of a row], overwritten.
    """
    columns, blocks = values.shape[1], scales.shape[1]
    subs = columns // blocks // size
    whole = subs * size
    weights = np.empty(columns, np.float32)
    one_x, one_w = np.empty(2 * size, np.float32), np.empty(2 * size, np.float32)
    x, w = np.empty(2 * whole, np.float32), np.empty(2 * whole, np.float32)
    centred = np.empty(size, np.float32)
    fits = np.empty((ERROR + 1, SPREADS.size * BELOW.size), np.float32)
    powers, wanted = np.empty(subs, np.float32), np.empty((3, subs), np.float32)
    trials = np.empty((FACTORS + 2 * subs, ENDS.size * MIN_ENDS.size), np.float32)
    found = np.empty(FACTORS + 2 * subs, np.float32)
    scales[:], min_scales[:] = _ZERO, _ZERO
    factors[:], min_factors[:] = 0, 0
    codes[:] = 0
    for row in range(values.shape[0]):
        of_row = values[row]
        weigh(of_row, importances, span, share, bare, weights)
        for block in range(blocks):
            first = block * whole
            unit = largest(of_row, first, whole)
            if not unit > SMALLEST:
                continue
            top = largest(weights, first, whole)
            widest, deepest = _ZERO, _ZERO
            for b in range(subs):
                at = first + b * size
                powers[b] = load(of_row, weights, at, size, unit, top, x, w, 2 * b * size)
                wanted[:, b] = _ZERO
                own = largest(of_row, at, size)
                if own > SMALLEST:
                    load(of_row, weights, at, size, own, _ZERO, one_x, one_w, 0)
                    d, minimum, code = _best_line(one_x, one_w, size, highest, centred, fits)
                    wanted[0, b] = d * (own / unit)
                    wanted[1, b] = minimum * (own / unit)
                    wanted[2, b] = code
                widest, deepest = max(widest, wanted[0, b]), max(deepest, wanted[1, b])
            widest = widest if widest > _ZERO else deepest
            deepest = deepest if deepest > _ZERO else widest
            column = 0
            for min_end in MIN_ENDS:
                for end in ENDS:
                    trials[TRIAL, column] = widest / (end * most)
                    trials[MINIMUM, column] = deepest / (min_end * most)
                    column += 1
            best = _try_pairs(x, w, size, powers, wanted, highest, most, trials, column)
            found[:] = trials[:, best]
            found[TOTAL] = F(np.inf)  # these scales cannot be stored yet
            step = NEAR
            for _ in range(TURNS):
                for k in range(LANES):
                    near, min_near = F(k % 4) - F(1.5), F(k // 4) - F(1.5)
                    trials[TRIAL, k] = _storable(found[TRIAL] * (_ONE + step * near), unit)
                    trials[MINIMUM, k] = _storable(found[MINIMUM] * (_ONE + step * min_near), unit)
                best = _try_pairs(x, w, size, powers, wanted, highest, most, trials, LANES)
                if trials[TOTAL, best] < found[TOTAL]:
                    found[:] = trials[:, best]
                step *= NEARER
            d, minimum = as_half(found[TRIAL] * unit), as_half(found[MINIMUM] * unit)
            scales[row, block], min_scales[row, block] = d, minimum
            for b in range(subs):
                factor, min_factor = found[FACTORS + 2 * b], found[FACTORS + 2 * b + 1]
                factors[row, block * subs + b] = np.int8(factor)
                min_factors[row, block * subs + b] = np.int8(min_factor)
                if factor > _ZERO:
                    at = first + b * size
                    _code(of_row, at, size, d * factor, minimum * min_factor, highest, codes[row])
