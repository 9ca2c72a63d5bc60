"""Codebooks of levels, and the cells by which the nearest level of a table is found.

The levels of a table lie unevenly, so the nearest one is not a rounded number. But |x·s| / CELL,
rounded, is the number of a *cell*, and no cell holds more than one *border* (the middle between
two levels). So a cell tells the border inside it, the level below that and the level above: one
comparison is enough. There are 16 cells for x ≥ 0 and 16 for x < 0.
"""

import numpy as np

from .arguments import Codebook
from .vectors import LANES

CELL = 8.0  # width of a cell, in levels


def codebook_of(levels: np.ndarray) -> Codebook:
    """The codebook of increasing levels; if they are no consecutive integers, with cells."""
    levels = np.ascontiguousarray(levels, np.float32)
    cells, cell_codes = np.zeros(0, np.float32), np.zeros(0, np.int64)
    if (np.diff(levels) != 1).any():
        cells = _cells(levels)
        # Of the level below the border. For x < 0 cells hold -level.
        below = cells[:, 1] * np.array([[1], [-1]], np.float32)
        cell_codes = np.searchsorted(levels, below)
    return Codebook(levels, levels[0], levels[-1], cells.ravel(), cell_codes.ravel())


def _cells(levels: np.ndarray) -> np.ndarray:
    """The cells of a table, float32 [2, 3, 16]: for x ≥ 0 and for x < 0.

    Rows are the border inside each cell (infinite if there is none), and the levels below and
    above it; for x < 0, all negated.

    The levels must lie on both sides of 0, and no cell may hold two borders.
    """
    cells = np.empty((2, 3, LANES), np.float32)
    for negative, seen in enumerate((levels, -levels[::-1])):
        borders = (seen[1:] + seen[:-1]) / 2
        positive = borders > 0
        borders, levels_here = borders[positive], seen[np.count_nonzero(~positive) :]
        for cell in range(LANES):
            low, high = (cell - 0.5) * CELL, (cell + 0.5) * CELL
            inside = np.flatnonzero((borders > low) & (borders <= high))
            passed = int((borders <= low).sum())
            assert len(inside) < 2
            cells[negative, 0, cell] = borders[inside[0]] if len(inside) else np.inf
            cells[negative, 1, cell] = levels_here[passed]
            cells[negative, 2, cell] = levels_here[passed + len(inside)]
    return cells
