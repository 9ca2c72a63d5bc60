"""Rounding `exact` of the types whose blocks have a scale D and a factor for each sub-block.

A weight is D · factor · level. The search has three stages:

1. Each sub-block alone: `exact` finds its best scale d. The ideal factor is d / D.
2. 32 scales D = (largest d) / ratio are tried. For each D, every sub-block takes the best of the
   factors next to d / D. The D with the least error of the whole block is kept.
3. 16 float16 values around this D are tried in the same way, and the best is stored.
"""

import numpy as np
from numba import njit

from ...compiled import STRICT
from .arguments import BlockPart, Wanted
from .blocks import SMALLEST, as_half, code, largest, load, weigh, zero_code
from .exact import best_scale, workspace
from .lanes import (
    LANES,
    TRIAL_ERROR,
    TRIAL_FACTORS,
    TRIAL_SCALE,
    integer_factors,
    table_factors,
)

F = np.float32
_ZERO, _ONE, _HALF = F(0), F(1), F(0.5)
NEAR = F(1.5e-3)  # spacing of the scales of stage 3, relative


@njit(**STRICT)
def _peak(part):
    """The value of the largest magnitude."""
    x = part.x
    found = x[0]
    for i in range(1, part.size):
        if abs(x[i]) > abs(found):
            found = x[i]
    return found


@njit(**STRICT, inline="always")
def _try_trials(block, wanted, codebook, factor_rule, trials, at):
    """Try the 16 scales D of columns from `at` on; errors and factors go to `trials`.

    Args:
        block: the `BlockPart` of the first sub-block; the others follow it.
        trials: see `lanes.integer_factors`.
    """
    trials[TRIAL_ERROR, at : at + LANES] = _ZERO
    for b in range(wanted.scales.size):
        part = BlockPart(block.x, block.w, 2 * b * block.size, block.size)
        if codebook.cells.size:
            table_factors(part, b, wanted, codebook, factor_rule, trials, at)
        else:
            integer_factors(part, b, wanted, codebook, factor_rule, trials, at)


@njit(**STRICT)
def round_rows(values, weighing, codebook, grid, factor_rule, result):
    """Round rows, block by block; arguments are as for `single.round_rows`, and a `FactorRule`."""
    columns, blocks = values.shape[1], result.scales.shape[1]
    subs = result.factors.shape[1] // blocks
    block_size = columns // blocks
    size = block_size // subs
    work = workspace(grid)
    weights = np.empty(columns, np.float32)
    alone = BlockPart(np.empty(2 * size, np.float32), np.empty(2 * size, np.float32), 0, size)
    x, w = np.empty(2 * block_size, np.float32), np.empty(2 * block_size, np.float32)
    wanted = Wanted(
        np.empty(subs, np.float32), np.empty(subs, np.int64), np.empty(subs, np.float32)
    )
    ratios = factor_rule.ratios
    trials = np.zeros((TRIAL_FACTORS + subs, max(ratios.size, LANES)), np.float32)
    for row in range(values.shape[0]):
        of_row, codes, factors_of_row = values[row], result.codes[row], result.factors[row]
        weigh(of_row, weighing, weights)
        for block in range(blocks):
            first = block * block_size
            unit = largest(of_row, first, block_size)
            result.scales[row, block] = _ZERO
            factors_of_row[block * subs : (block + 1) * subs] = 0
            codes[first : first + block_size] = zero_code(codebook)
            if not unit > SMALLEST:
                continue
            heaviest = largest(weights, first, block_size)
            widest = _ZERO
            for b in range(subs):
                here = first + b * size
                part = BlockPart(x, w, 2 * b * size, size)
                wanted.powers[b] = load(of_row, weights, here, unit, heaviest, part)
                wanted.scales[b], wanted.sides[b] = _ZERO, 0
                sub_unit = largest(of_row, here, size)
                if not sub_unit > SMALLEST:
                    continue
                power = load(of_row, weights, here, sub_unit, _ZERO, alone)
                d, side, _ = best_scale(alone, power, codebook, grid, work)
                if codebook.cells.size == 0 and d * (codebook.highest + _HALF) > _ONE:
                    # No value is clamped at d, so both sides are equally good. At a smaller d one
                    # may be: the side where the peak is negative has one more level for it.
                    side = int(_peak(alone) > _ZERO)
                wanted.scales[b], wanted.sides[b] = d * (sub_unit / unit), side
                widest = max(widest, wanted.scales[b])
            block_part = BlockPart(x, w, 0, size)
            for k in range(ratios.size):
                trials[TRIAL_SCALE, k] = widest / ratios[k]
            for at in range(0, ratios.size, LANES):
                _try_trials(block_part, wanted, codebook, factor_rule, trials, at)
            best = np.argmin(trials[TRIAL_ERROR, : ratios.size])
            middle = trials[TRIAL_SCALE, best]
            for k in range(LANES):
                d = as_half(unit * middle * (_ONE + F(k - LANES // 2) * NEAR))
                trials[TRIAL_SCALE, k] = d / unit
            if trials[TRIAL_SCALE, LANES - 1] == _ZERO:
                continue
            for k in range(LANES):
                if trials[TRIAL_SCALE, k] == _ZERO:
                    trials[TRIAL_SCALE, k] = trials[TRIAL_SCALE, LANES - 1]
            _try_trials(block_part, wanted, codebook, factor_rule, trials, 0)
            best = np.argmin(trials[TRIAL_ERROR, :LANES])
            d = as_half(trials[TRIAL_SCALE, best] * unit)
            result.scales[row, block] = d
            for b in range(subs):
                factor = trials[TRIAL_FACTORS + b, best]
                factor = -factor if wanted.sides[b] else factor
                factors_of_row[block * subs + b] = np.int8(factor)
                if factor != _ZERO:
                    code(of_row, first + b * size, size, d * factor, codebook, codes)
