"""Rounding by the searches that were proposed for llama.cpp: `cumulative` and `gradient`.

A block with one scale takes what the search finds. Where sub-blocks have factors, each sub-block is
searched alone; then the scales found are themselves values to be rounded to integers, with the sums
of the weights as their weights, as llama.cpp does for Q3_K, and the same search finds the scale of
the block. Codes are rounded again at the scale that is stored.
"""

import numpy as np
from numba import njit

from ...compiled import STRICT
from . import cumulative, gradient
from .blocks import SMALLEST, as_half, code, largest, load, nearest, weigh
from .lanes import LANES

F = np.float32
_ZERO = F(0)

_cumulative_scale, _gradient_scale = cumulative.best_scale, gradient.best_scale


@njit(**STRICT)
def _search(x, w, size, levels, table, by_gradient, both_signs, steps, codes):
    if by_gradient:
        d, _ = _gradient_scale(x, w, size, levels, table, codes)
    else:
        d, _ = _cumulative_scale(x, w, size, levels, table, both_signs, steps)
    return d


@njit(**STRICT)
def round_rows(
    values, importances, span, share, bare, size, bounds, below, levels,
    by_gradient, both_signs, factor_range, scales, factors, codes,
):  # fmt: skip
    """Round rows, block by block.

    Args:
        values, importances, span, share, bare, below, codes: as for `single.round_rows`.
        size: weights in a block, or in a sub-block where there are factors.
        bounds: (lowest, highest, cells), as for `exact.best_scale`.
        levels: float32, all of them.
        by_gradient: whether the search is `gradient`, or else `cumulative`.
        both_signs: as for `cumulative.best_scale`.
        factor_range, scales, factors: as for `joint.round_rows`; `factors` is empty for types
            without.
    """
    lowest, highest, cells = bounds
    table = cells.size > 0
    columns, blocks = values.shape[1], scales.shape[1]
    subs = factors.shape[1] // blocks
    count = max(subs, 1)
    weights = np.empty(columns, np.float32)
    x, w = np.empty(2 * size, np.float32), np.empty(2 * size, np.float32)
    room = size * levels.size
    integers = np.arange(factor_range[0], factor_range[1] + 1).astype(np.float32)
    padded = -(-count // LANES) * LANES  # with values of 0, which decide nothing
    room = max(room, padded * integers.size)
    steps = np.empty(room, np.float32), np.empty(room, np.float32), np.empty(room, np.float32)
    numbers = np.empty((2, max(size, padded)), np.int64)
    wanted, sums = np.zeros(padded, np.float32), np.zeros(padded, np.float32)
    wanted_x, wanted_w = np.empty(2 * padded, np.float32), np.empty(2 * padded, np.float32)
    for row in range(values.shape[0]):
        of_row, codes_of_row, factors_of_row = values[row], codes[row], factors[row]
        weigh(of_row, importances, span, share, bare, weights)
        for block in range(blocks):
            begin = block * count * size
            for b in range(count):
                first = begin + b * size
                unit = largest(of_row, first, size)
                wanted[b], sums[b] = _ZERO, _ZERO
                for i in range(first, first + size):
                    sums[b] += weights[i]
                if unit > SMALLEST:
                    load(of_row, weights, first, size, unit, _ZERO, x, w, 0)
                    wanted[b] = unit * _search(
                        x, w, size, levels, table, by_gradient, both_signs, steps, numbers
                    )
            d = wanted[0]
            unit = largest(wanted, 0, count)
            if subs and unit > _ZERO:
                load(wanted, sums, 0, padded, unit, _ZERO, wanted_x, wanted_w, 0)
                d = unit * _search(
                    wanted_x, wanted_w, padded, integers, False, by_gradient, True, steps, numbers
                )
            d = as_half(d)
            scales[row, block] = d
            for b in range(count):
                factor = _ZERO
                if subs and d != _ZERO:
                    factor = integers[nearest(wanted[b] / d, integers, False)]
                    factors_of_row[block * subs + b] = np.int8(factor)
                elif subs:
                    factors_of_row[block * subs + b] = 0
                fine = d * factor if subs else d
                first = begin + b * size
                if fine != _ZERO:
                    code(of_row, first, size, fine, lowest, highest, cells, below, codes_of_row)
                else:
                    zero = -lowest if cells.size == 0 else F(below[0])
                    codes_of_row[first : first + size] = np.uint8(zero)
