"""Exact rounding of the types whose blocks have one scale."""

import numpy as np
from numba import njit

from ...compiled import STRICT
from .blocks import SMALLEST, as_half, code, largest, load, weigh
from .exact import best_scale, workspace

F = np.float32
_ZERO = F(0)


@njit(**STRICT)
def round_rows(values, importances, span, share, bare, size, levels, below, grid, scales, codes):
    """Round rows, block by block.

    Args:
        values: float32 [rows, columns], finite.
        importances, span, share, bare: as for `blocks.weigh`.
        size: weights in a block.
        levels: (lowest, highest, cells), as for `exact.best_scale`.
        below: from `lanes.codes_of`.
        grid: as for `exact.workspace`.
        scales: float32 [rows, blocks of a row], overwritten with float16 values.
        codes: uint8 [rows, columns], overwritten.
    """
    lowest, highest, cells = levels
    points, inner, waiting = workspace(grid)
    counts = grid[0].size, grid[1].size, grid[2]
    weights = np.empty(values.shape[1], np.float32)
    x, w = np.empty(2 * size, np.float32), np.empty(2 * size, np.float32)
    for row in range(values.shape[0]):
        of_row, codes_of_row = values[row], codes[row]
        weigh(of_row, importances, span, share, bare, weights)
        for block in range(scales.shape[1]):
            first = block * size
            unit = largest(of_row, first, size)
            d = _ZERO
            if unit > SMALLEST:
                power = load(of_row, weights, first, size, unit, _ZERO, x, w, 0)
                d, side, _ = best_scale(
                    x, w, size, power, lowest, highest, cells, counts, points, inner, waiting
                )
                d = as_half(-d * unit if side else d * unit)
            scales[row, block] = d
            if d == _ZERO:
                zero = -lowest if cells.size == 0 else F(below[0])
                codes_of_row[first : first + size] = np.uint8(zero)
            else:
                code(of_row, first, size, d, lowest, highest, cells, below, codes_of_row)
