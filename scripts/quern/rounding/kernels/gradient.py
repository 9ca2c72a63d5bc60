"""First-order gradient steps, as ik_llama.cpp's pull request 295 proposes them.

A grid of scales like llama.cpp's, but of both signs, gives the first codes. Then the code along
which the error falls most steeply moves by one level, as long as A²/B rises (A = Σ w·q·x,
B = Σ w·q²). In a table, where levels lie unevenly, slopes count relative to the step.
"""

import numpy as np
from numba import njit

from ...compiled import STRICT
from .blocks import nearest

F = np.float32
_ZERO = F(0)
GRID, STEP = 9, F(0.1)  # scales on either side of the middle, and the step for integers
TABLE_GRID = 7  # the same for tables, in steps of 1


@njit(**STRICT)
def _sums(x, w, size, s, levels, table, codes):
    """Codes at s, and their A and B."""
    a, b = 0.0, 0.0
    for i in range(size):
        codes[i] = nearest(x[i] * s, levels, table)
        q = np.float64(levels[codes[i]])
        a += w[i] * q * x[i]
        b += w[i] * q * q
    return a, b


@njit(**STRICT)
def _steepest(x, w, size, a, b, levels, table, codes):
    """The code to move and its direction; a direction of 0 if there is none."""
    d = F(a / b)
    chosen, way, best = 0, 0, _ZERO
    for i in range(size):
        slope = d * w[i] * (x[i] - d * levels[codes[i]])
        direction = 1 if slope > _ZERO else -1
        if slope == _ZERO or not 0 <= codes[i] + direction < levels.size:
            continue
        gain = abs(slope)
        if table:
            gain /= abs(levels[codes[i] + direction] - levels[codes[i]])
        if gain > best:
            chosen, way, best = i, direction, gain
    return chosen, way


@njit(**STRICT)
def grid(x, w, size, levels, table, signs, room):
    """Try scales around those that give the largest value an outermost level.

    Args:
        signs: 1 for its own sign, -1 for the other; llama.cpp tries the latter alone.
        room: codes of the best go to the second row.

    Returns:
        (F, A, B): the largest A²/B, and its A and B.
    """
    best, a, b = 0.0, 0.0, 0.0
    reach = TABLE_GRID if table else GRID
    peak = _ZERO
    for i in range(size):
        peak = x[i] if abs(x[i]) > abs(peak) else peak
    codes, kept = room
    if table:  # with its own sign, llama.cpp tries one scale
        a, b = _sums(x, w, size, -levels[0] / peak, levels, table, codes)
        best = a * a / b if b > 0 else 0.0
        kept[:size] = codes[:size]
    for sign in signs:
        top = levels[-1] if sign > 0 else -levels[0]
        for k in range(-reach, reach + 1):
            s = F(sign) * (top + (F(k) if table else F(k) * STEP)) / peak
            a_here, b_here = _sums(x, w, size, s, levels, table, codes)
            if b_here > 0 and a_here * a_here / b_here > best:
                best, a, b = a_here * a_here / b_here, a_here, b_here
                kept[:size] = codes[:size]
    return best, a, b


@njit(**STRICT)
def best_scale(x, w, size, levels, table, room):
    """What the ascent finds.

    Args:
        x, w: float32 [size]; the largest value is 1.
        levels, table: as for `cumulative.best_scale`.
        room: int64 [2, size].

    Returns:
        (d, F): the scale, of either sign, and A²/B.
    """
    best, a, b = grid(x, w, size, levels, table, (-1, 1), room)
    kept = room[1]
    while b > 0:
        i, way = _steepest(x, w, size, a, b, levels, table, kept)
        if way == 0:
            break
        here, there = np.float64(levels[kept[i]]), np.float64(levels[kept[i] + way])
        a_here = a + w[i] * x[i] * (there - here)
        b_here = b + w[i] * (there * there - here * here)
        value = a_here * a_here / b_here if b_here > 0 else 0.0
        if not value > best:
            break
        kept[i] += way
        best, a, b = value, a_here, b_here
    return F(a / b) if b > 0 else _ZERO, best
