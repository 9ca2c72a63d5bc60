"""Rounding of the types whose blocks have a scale and a minimum of their own (Q4_1, Q5_1).

The best line is searched as for a sub-block of `offset`. That search knows no minimum below 0,
which these types do, so it sees values less the largest. Scale and minimum are then brought to
float16 in turn, the minimum for the codes that the scale gives.
"""

import numpy as np
from numba import njit

from ...compiled import STRICT
from .arguments import BlockPart
from .blocks import SMALLEST, as_half, largest, load, weigh
from .offset import BELOW, SPREADS, best_line, code_line
from .offset_lanes import LINE_ERROR

F = np.float32
_ZERO = F(0)
TURNS = 3


@njit(**STRICT)
def _fitted_minimum(values, weights, first, size, d, codes):
    """The best minimum of these codes at scale d."""
    weight, total = _ZERO, _ZERO
    for i in range(first, first + size):
        weight += weights[i]
        total += weights[i] * (d * F(codes[i]) - values[i])
    return total / weight if weight > _ZERO else -values[first]


@njit(**STRICT)
def _error(values, weights, first, size, d, minimum, codes):
    total = _ZERO
    for i in range(first, first + size):
        error = values[i] + minimum - d * F(codes[i])
        total += weights[i] * error * error
    return total


@njit(**STRICT)
def round_rows(values, weighing, highest, result):
    """Round rows, block by block.

    Args:
        values, weighing, result: as for `single.round_rows`; minima are written.
        highest: the highest code, float32.
    """
    columns, blocks = values.shape[1], result.scales.shape[1]
    size = columns // blocks
    weights, shifted = np.empty(columns, np.float32), np.empty(columns, np.float32)
    part = BlockPart(np.empty(2 * size, np.float32), np.empty(2 * size, np.float32), 0, size)
    centred = BlockPart(np.empty(size, np.float32), part.w, 0, size)
    lines = np.empty((LINE_ERROR + 1, SPREADS.size * BELOW.size), np.float32)
    tried = np.zeros(columns, np.uint8)
    for row in range(values.shape[0]):
        of_row, codes = values[row], result.codes[row]
        weigh(of_row, weighing, weights)
        codes[:] = 0
        for block in range(blocks):
            first = block * size
            top = of_row[first]
            for i in range(first, first + size):
                top = max(top, of_row[i])
            for i in range(first, first + size):
                shifted[i] = of_row[i] - top
            unit = largest(shifted, first, size)
            scale, minimum = _ZERO, as_half(-top)
            if unit > SMALLEST:
                load(shifted, weights, first, unit, _ZERO, part)
                d, below, _ = best_line(part, highest, centred, lines)
                d, m = as_half(d * unit), as_half(below * unit - top)
                best = F(np.inf)
                for _ in range(TURNS if d > _ZERO else 0):
                    code_line(of_row, first, size, d, m, highest, tried)
                    error = _error(of_row, weights, first, size, d, m, tried)
                    if error < best:
                        best, scale, minimum = error, d, m
                        codes[first : first + size] = tried[first : first + size]
                    m = as_half(_fitted_minimum(of_row, weights, first, size, d, tried))
            result.scales[row, block], result.min_scales[row, block] = scale, minimum
