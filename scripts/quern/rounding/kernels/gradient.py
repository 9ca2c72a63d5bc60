"""First-order gradient steps, as ik_llama.cpp's pull request 295 proposes them.

A grid of scales like llama.cpp's, but of both signs, gives the first codes. Then the code along
which the error falls most steeply steps to the next level, as long as A²/B rises (A = Σ w·q·x,
B = Σ w·q²). In a table, where levels lie unevenly, a slope counts relative to the step.
"""

import numpy as np
from numba import njit

from ...compiled import STRICT
from .blocks import nearest

F = np.float32
_ZERO = F(0)
TRIED, SPACING = 9, F(0.1)  # scales below and above the middle of the grid, in levels
TABLE_TRIED = 7  # the same for tables, at a spacing of 1


@njit(**STRICT, inline="always")
def _sums(part, s, codebook, codes):
    """Codes at s, and their A and B."""
    x, w, levels = part.x, part.w, codebook.levels
    a, b = 0.0, 0.0
    for i in range(part.size):
        codes[i] = nearest(x[i] * s, codebook)
        q = np.float64(levels[codes[i]])
        a += w[i] * q * x[i]
        b += w[i] * q * q
    return a, b


@njit(**STRICT, inline="always")
def _steepest(part, a, b, codebook, codes):
    """The number of the code to step and its direction; a direction of 0 if there is none."""
    x, w, levels = part.x, part.w, codebook.levels
    d = F(a / b)
    chosen, way, best = 0, 0, _ZERO
    for i in range(part.size):
        slope = d * w[i] * (x[i] - d * levels[codes[i]])
        direction = 1 if slope > _ZERO else -1
        if slope == _ZERO or not 0 <= codes[i] + direction < levels.size:
            continue
        gain = abs(slope)
        if codebook.cells.size:
            gain /= abs(levels[codes[i] + direction] - levels[codes[i]])
        if gain > best:
            chosen, way, best = i, direction, gain
    return chosen, way


@njit(**STRICT)
def first_codes(part, codebook, signs, codes):
    """Try scales around those that give the largest value an outermost level.

    Args:
        signs: 1 for the sign of the value, -1 for the other; llama.cpp tries -1 alone.
        codes: int64 [2, ≥ size]; the codes of the best scale go to the second row.

    Returns:
        (A²/B, A, B), where A²/B is the largest.
    """
    x, levels = part.x, codebook.levels
    table = codebook.cells.size > 0
    best, a, b = 0.0, 0.0, 0.0
    tried = TABLE_TRIED if table else TRIED
    peak = _ZERO
    for i in range(part.size):
        peak = x[i] if abs(x[i]) > abs(peak) else peak
    current, kept = codes
    if table:  # of the value's own sign, llama.cpp tries one scale
        a, b = _sums(part, -levels[0] / peak, codebook, current)
        best = a * a / b if b > 0 else 0.0
        kept[: part.size] = current[: part.size]
    for sign in signs:
        outermost = levels[-1] if sign > 0 else -levels[0]
        for k in range(-tried, tried + 1):
            s = F(sign) * (outermost + (F(k) if table else F(k) * SPACING)) / peak
            a_here, b_here = _sums(part, s, codebook, current)
            if b_here > 0 and a_here * a_here / b_here > best:
                best, a, b = a_here * a_here / b_here, a_here, b_here
                kept[: part.size] = current[: part.size]
    return best, a, b


@njit(**STRICT)
def best_scale(part, codebook, codes):
    """What the ascent finds.

    Args:
        part: a `BlockPart` that starts at 0; the negated values are not used.
        codebook: see `arguments`.
        codes: int64 [2, ≥ size], overwritten.

    Returns:
        (d, A²/B): the scale, of either sign, and its A²/B.
    """
    x, w, levels = part.x, part.w, codebook.levels
    best, a, b = first_codes(part, codebook, (-1, 1), codes)
    kept = codes[1]
    while b > 0:
        i, way = _steepest(part, a, b, codebook, kept)
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
