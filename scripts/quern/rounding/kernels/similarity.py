"""How well each search meets blocks of three values: the loop of the pictures."""

import numpy as np
from numba import njit

from ...compiled import EXACT
from . import cumulative, exact, gradient
from .lanes import LANES


@njit(**EXACT)
def similarities(vectors, rounding, levels, bounds, both_signs, grid, found):
    """Fill `found`, float32 [n], for vectors, float64 [n, 3]."""
    lowest, highest, cells = bounds
    table = cells.size > 0
    points, inner, waiting = exact.workspace(grid)
    counts = grid[0].size, grid[1].size, grid[2]
    x, w = np.zeros(2 * LANES, np.float32), np.full(2 * LANES, 1e-12, np.float32)
    steps = (
        np.empty(LANES * levels.size, np.float32),
        np.empty(LANES * levels.size, np.float32),
        np.empty(LANES * levels.size, np.float32),
    )
    codes = np.empty((2, LANES), np.int64)
    signs = (1, 1) if lowest == 0 else (-1, -1)
    short_x, short_w = np.empty(6, np.float32), np.ones(6, np.float32)
    w[:3], w[LANES : LANES + 3] = 1, 1
    for pixel in range(vectors.shape[0]):
        v = vectors[pixel]
        peak = np.argmax(np.abs(v))
        power = np.float32(0)
        for i in range(3):
            value = np.float32(v[i] / abs(v[peak]))
            x[i], x[LANES + i] = value, -value
            short_x[i], short_x[3 + i] = value, -value
            power += value * value
        if rounding == 3:
            _, _, error = exact.best_scale(
                x, w, LANES, power, lowest, highest, cells, counts, points, inner, waiting
            )
            best = np.float64(power - error)
        elif rounding == 2:
            _, best = cumulative.best_scale(short_x, short_w, 3, levels, table, both_signs, steps)
        elif rounding == 1:
            _, best = gradient.best_scale(short_x, short_w, 3, levels, table, codes)
        else:
            best, _, _ = gradient.grid(short_x, short_w, 3, levels, table, signs, codes)
        found[pixel] = np.sqrt(best / power)
