"""Rounding of the types whose blocks have a scale D and a factor for each sub-block.

First the best scale of each sub-block alone, by `exact`. Then 32 scales D, of which the largest
sub-block's scale is 1/reach of, are tried at once: for each, every sub-block takes the best of the
factors around what it wants, and the D with the least error in all is kept. It is fitted to the
codes, and 16 float16 values around it are tried in the same way.
"""

import numpy as np
from numba import njit

from ...compiled import STRICT
from .blocks import SMALLEST, as_half, code, largest, load, weigh
from .exact import best_scale, workspace
from .lanes import FACTORS, LANES, TOTAL, TRIAL, integer_factors, table_factors

F = np.float32
_ZERO, _ONE, _HALF = F(0), F(1), F(0.5)
NEAR = F(1.5e-3)  # step, relative, between the scales that are tried last


@njit(**STRICT)
def _peak(x, size):
    """The value of the largest magnitude."""
    found = x[0]
    for i in range(1, size):
        if abs(x[i]) > abs(found):
            found = x[i]
    return found


@njit(**STRICT, inline="always")
def _try_trials(x, w, size, powers, wanted, sides, lowest, highest, cells, most, reach, trials, at):
    """Try the 16 scales D from `at` on; errors and factors go to `trials`."""
    trials[TOTAL, at : at + LANES] = _ZERO
    for b in range(wanted.size):
        start = (2 * b + sides[b]) * size
        power, scale, limit = powers[b], wanted[b], most[sides[b]]
        if cells.size:
            table_factors(x, w, start, size, power, cells, scale, limit, reach, trials, at, b)
        else:
            integer_factors(
                x, w, start, size, power, lowest, highest, scale, limit, reach, trials, at, b
            )


@njit(**STRICT)
def round_rows(
    values, importances, span, share, bare, size, levels, below, grid, ends, reach, factor_range,
    scales, factors, codes,
):  # fmt: skip
    """Round rows, block by block.

    Args:
        values, importances, span, share, bare, levels, below, grid, codes: as for
            `single.round_rows`.
        size: weights in a sub-block.
        ends: float32 [16 · k]: the largest sub-block's scale over each D that is tried.
        reach: how many factors are tried for each D.
        factor_range: the lowest and the highest factor.
        scales: float32 [rows, blocks of a row], overwritten with float16 values.
        factors: int8 [rows, sub-blocks of a row], overwritten.
    """
    lowest, highest, cells = levels
    points, inner, waiting = workspace(grid)
    counts = grid[0].size, grid[1].size, grid[2]
    columns, blocks = values.shape[1], scales.shape[1]
    subs = columns // blocks // size
    whole = subs * size
    weights = np.empty(columns, np.float32)
    one_x, one_w = np.empty(2 * size, np.float32), np.empty(2 * size, np.float32)
    x, w = np.empty(2 * whole, np.float32), np.empty(2 * whole, np.float32)
    powers, wanted = np.empty(subs, np.float32), np.empty(subs, np.float32)
    sides = np.empty(subs, np.int64)
    trials = np.zeros((FACTORS + subs, max(ends.size, LANES)), np.float32)
    most = F(factor_range[1]), F(-factor_range[0])
    for row in range(values.shape[0]):
        of_row, codes_of_row, factors_of_row = values[row], codes[row], factors[row]
        weigh(of_row, importances, span, share, bare, weights)
        for block in range(blocks):
            first = block * whole
            unit = largest(of_row, first, whole)
            scales[row, block] = _ZERO
            factors_of_row[block * subs : (block + 1) * subs] = 0
            zero = -lowest if cells.size == 0 else F(below[0])
            codes_of_row[first : first + whole] = np.uint8(zero)
            if not unit > SMALLEST:
                continue
            top = largest(weights, first, whole)
            widest = _ZERO
            for b in range(subs):
                at = first + b * size
                powers[b] = load(of_row, weights, at, size, unit, top, x, w, 2 * b * size)
                wanted[b], sides[b] = _ZERO, 0
                own = largest(of_row, at, size)
                if not own > SMALLEST:
                    continue
                power = load(of_row, weights, at, size, own, _ZERO, one_x, one_w, 0)
                d, side, _ = best_scale(
                    one_x, one_w, size, power, lowest, highest, cells, counts,
                    points, inner, waiting,
                )  # fmt: skip
                if cells.size == 0 and d * (highest + _HALF) > _ONE:
                    # Nothing is clamped, so either sign will do here, but not when d is made
                    # smaller: there is one more negative level.
                    side = int(_peak(one_x, size) > _ZERO)
                wanted[b], sides[b] = d * (own / unit), side
                widest = max(widest, wanted[b])
            for k in range(ends.size):
                trials[TRIAL, k] = widest / ends[k]
            for at in range(0, ends.size, LANES):
                _try_trials(
                    x, w, size, powers, wanted, sides, lowest, highest, cells,
                    most, reach, trials, at,
                )  # fmt: skip
            best = np.argmin(trials[TOTAL, : ends.size])
            middle = trials[TRIAL, best]
            for k in range(LANES):
                d = as_half(unit * middle * (_ONE + F(k - LANES // 2) * NEAR))
                trials[TRIAL, k] = d / unit
            if trials[TRIAL, LANES - 1] == _ZERO:
                continue
            for k in range(LANES):
                if trials[TRIAL, k] == _ZERO:
                    trials[TRIAL, k] = trials[TRIAL, LANES - 1]
            _try_trials(
                x, w, size, powers, wanted, sides, lowest, highest, cells, most, reach, trials, 0
            )
            best = np.argmin(trials[TOTAL, :LANES])
            d = as_half(trials[TRIAL, best] * unit)
            scales[row, block] = d
            for b in range(subs):
                factor = trials[FACTORS + b, best]
                factor = -factor if sides[b] else factor
                factors_of_row[block * subs + b] = np.int8(factor)
                if factor != _ZERO:
                    at = first + b * size
                    code(of_row, at, size, d * factor, lowest, highest, cells, below, codes_of_row)
