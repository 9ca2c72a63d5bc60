"""Rounding by the searches that were proposed for llama.cpp: `cumulative` and `gradient`.

A block with one scale takes the scale that the search finds. If sub-blocks have factors, each
sub-block is searched alone. Then the scales found are rounded to integers, the factors: the same
search finds the scale of the block, and the weight of each value is the sum of the sub-block's
weights. llama.cpp does so for Q3_K. Codes are rounded again at the scales that are stored.
"""

import numpy as np
from numba import njit

from ...compiled import STRICT
from . import cumulative, gradient
from .arguments import BlockPart, Codebook
from .blocks import SMALLEST, as_half, code, largest, load, nearest, weigh, zero_code
from .lanes import LANES

F = np.float32
_ZERO = F(0)

_cumulative_scale, _gradient_scale = cumulative.best_scale, gradient.best_scale
_steps_for = cumulative.steps_for


@njit(**STRICT)
def _search(part, codebook, by_gradient, both_signs, steps, codes):
    if by_gradient:
        d, _ = _gradient_scale(part, codebook, codes)
    else:
        d, _ = _cumulative_scale(part, codebook, both_signs, steps)
    return d


@njit(**STRICT)
def _integers(factor_rule):
    """The codebook of the factors."""
    levels = np.arange(factor_rule.lowest, factor_rule.highest + 1).astype(np.float32)
    return Codebook(levels, levels[0], levels[-1], np.zeros(0, np.float32), np.zeros(0, np.int64))


@njit(**STRICT)
def round_rows(values, weighing, codebook, factor_rule, by_gradient, both_signs, result):
    """Round rows, block by block.

    Args:
        values, weighing, codebook, result: as for `single.round_rows`.
        factor_rule: a `FactorRule`; its range is used.
        by_gradient: whether the search is `gradient`, or else `cumulative`.
        both_signs: as for `cumulative.best_scale`.
    """
    columns, blocks = values.shape[1], result.scales.shape[1]
    subs = result.factors.shape[1] // blocks
    count = max(subs, 1)
    size = columns // blocks // count
    integers = _integers(factor_rule)
    padded = -(-count // LANES) * LANES  # with values of 0, which decide nothing
    weights = np.empty(columns, np.float32)
    part = BlockPart(np.empty(2 * size, np.float32), np.empty(2 * size, np.float32), 0, size)
    found, sums = np.zeros(padded, np.float32), np.zeros(padded, np.float32)
    x, w = np.empty(2 * padded, np.float32), np.empty(2 * padded, np.float32)
    found_part = BlockPart(x, w, 0, padded)
    steps = _steps_for(max(size * codebook.levels.size, padded * integers.levels.size))
    numbers = np.empty((2, max(size, padded)), np.int64)
    for row in range(values.shape[0]):
        of_row, codes, factors_of_row = values[row], result.codes[row], result.factors[row]
        weigh(of_row, weighing, weights)
        for block in range(blocks):
            block_first = block * count * size
            for b in range(count):
                first = block_first + b * size
                unit = largest(of_row, first, size)
                found[b], sums[b] = _ZERO, _ZERO
                for i in range(first, first + size):
                    sums[b] += weights[i]
                if unit > SMALLEST:
                    load(of_row, weights, first, unit, _ZERO, part)
                    d = _search(part, codebook, by_gradient, both_signs, steps, numbers)
                    found[b] = unit * d
            d = found[0]
            unit = largest(found, 0, count)
            if subs and unit > _ZERO:
                load(found, sums, 0, unit, _ZERO, found_part)
                d = unit * _search(found_part, integers, by_gradient, True, steps, numbers)
            d = as_half(d)
            result.scales[row, block] = d
            for b in range(count):
                factor = _ZERO
                if subs and d != _ZERO:
                    factor = integers.levels[nearest(found[b] / d, integers)]
                    factors_of_row[block * subs + b] = np.int8(factor)
                elif subs:
                    factors_of_row[block * subs + b] = 0
                fine = d * factor if subs else d
                first = block_first + b * size
                if fine != _ZERO:
                    code(of_row, first, size, fine, codebook, codes)
                else:
                    codes[first : first + size] = zero_code(codebook)
