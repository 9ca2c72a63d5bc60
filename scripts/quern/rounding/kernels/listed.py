"""Rounding of the types whose sub-blocks have a scale of their own, one of a list (MXFP4, NVFP4).

The scales around that at which the largest value meets the highest level are tried, each exactly.
"""

import numpy as np
from numba import njit

from ...compiled import STRICT
from .blocks import SMALLEST, largest, passed, weigh

F = np.float32
_ZERO = F(0)
BELOW, ABOVE = 8, 9  # scales that are tried on either side


@njit(**STRICT)
def _error(values, weights, first, size, d, levels, middles):
    total = _ZERO
    for i in range(first, first + size):
        error = values[i] - d * levels[passed(values[i] / d, middles)]
        total += weights[i] * error * error
    return total


@njit(**STRICT)
def round_rows(values, weighing, levels, middles, steps, lowest, result):
    """Round rows, sub-block by sub-block.

    Args:
        values, weighing, result: as for `single.round_rows`.
        levels, middles: float32, increasing, and half-way from each to the next.
        steps: float32, increasing, the scales.
        lowest: integer, the factor that stands for the first of them.
    """
    columns, subs = values.shape[1], result.factors.shape[1]
    size = columns // subs
    weights = np.empty(columns, np.float32)
    scaled = np.empty(columns, np.float32)
    for row in range(values.shape[0]):
        of_row, codes = values[row], result.codes[row]
        weigh(of_row, weighing, weights)
        for b in range(subs):
            first = b * size
            unit = largest(of_row, first, size)
            near = np.searchsorted(steps, unit / levels[-1])
            best, best_error = -1, F(np.inf)
            for i in range(first, first + size):
                # So that squares stay in range.
                scaled[i] = of_row[i] / unit if unit > SMALLEST else _ZERO
            start, stop = max(near - BELOW, 0), min(near + ABOVE, steps.size)
            for k in range(start, stop if unit > SMALLEST else start):
                d = steps[k] / unit
                if d > _ZERO:
                    error = _error(scaled, weights, first, size, d, levels, middles)
                    if error < best_error:
                        best, best_error = k, error
            for i in range(first, first + size):
                y = of_row[i] / steps[best] if best >= 0 else _ZERO
                codes[i] = np.uint8(passed(y, middles))
            result.factors[row, b] = np.int8(max(best, 0) + lowest)
