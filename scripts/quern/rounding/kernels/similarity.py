"""How near each search comes to blocks of three values: the loop of the pictures."""

import numpy as np
from numba import njit

from ... import compiled
from . import cumulative, exact, gradient
from .arguments import BlockPart

GGML, GRADIENT, CUMULATIVE, EXACT = range(4)  # the searches


@njit(**compiled.EXACT)
def similarities(vectors, search, codebook, grid, found):
    """Fill `found`, float32 [n], for vectors, float64 [n, 3].

    Args:
        search: one of the constants of this module.
        codebook, grid: see `arguments`; the grid is for EXACT.
    """
    work = exact.workspace(grid)
    steps = cumulative.steps_for(3 * codebook.levels.size)
    codes = np.empty((2, 3), np.int64)
    # llama.cpp tries one sign. (There are always two, so that numba sees one type.)
    signs = (1, 1) if codebook.lowest == 0 else (-1, -1)
    part = BlockPart(np.empty(6, np.float32), np.ones(6, np.float32), 0, 3)
    for pixel in range(vectors.shape[0]):
        v = vectors[pixel]
        peak = np.argmax(np.abs(v))
        power = np.float32(0)
        for i in range(3):
            value = np.float32(v[i] / abs(v[peak]))
            part.x[i], part.x[3 + i] = value, -value
            power += value * value
        if search == EXACT:
            _, _, error = exact.best_scale(part, power, codebook, grid, work)
            best = np.float64(power - error)
        elif search == CUMULATIVE:
            _, best = cumulative.best_scale(part, codebook, True, steps)
        elif search == GRADIENT:
            _, best = gradient.best_scale(part, codebook, codes)
        else:
            best, _, _ = gradient.first_codes(part, codebook, signs, codes)
        found[pixel] = np.sqrt(best / power)
