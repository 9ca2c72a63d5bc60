"""Rounding `exact` of the types whose blocks have one scale."""

import numpy as np
from numba import njit

from ...compiled import STRICT
from .arguments import BlockPart
from .blocks import SMALLEST, as_half, code, largest, load, weigh, zero_code
from .exact import best_scale, workspace

F = np.float32
_ZERO = F(0)


@njit(**STRICT)
def round_rows(values, weighing, codebook, grid, result):
    """Round rows, block by block.

    Args:
        values: float32 [rows, columns], finite.
        weighing, codebook, grid: see `arguments`.
        result: a `Result`, overwritten.
    """
    columns, blocks = values.shape[1], result.scales.shape[1]
    size = columns // blocks
    work = workspace(grid)
    weights = np.empty(columns, np.float32)
    part = BlockPart(np.empty(2 * size, np.float32), np.empty(2 * size, np.float32), 0, size)
    for row in range(values.shape[0]):
        of_row, codes = values[row], result.codes[row]
        weigh(of_row, weighing, weights)
        for block in range(blocks):
            first = block * size
            unit = largest(of_row, first, size)
            d = _ZERO
            if unit > SMALLEST:
                power = load(of_row, weights, first, unit, _ZERO, part)
                d, side, _ = best_scale(part, power, codebook, grid, work)
                d = as_half(-d * unit if side else d * unit)
            result.scales[row, block] = d
            if d == _ZERO:
                codes[first : first + size] = zero_code(codebook)
            else:
                code(of_row, first, size, d, codebook, codes)
