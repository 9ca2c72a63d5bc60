"""Cumulative search, as llama.cpp's pull request 12557 proposes it.

The scales at which any code steps are put in order and walked, with running sums A = Σ w·q·x and
B = Σ w·q²; the state with the largest A²/B wins. For integers the walk begins at half their range
(each state below has an equal one there) and, unless both signs are asked for, takes the sign that
gives the largest value the lowest level. For tables it takes both signs and the whole range.
"""

import numpy as np
from numba import njit

from ...compiled import STRICT
from .blocks import nearest

F = np.float32
_ZERO, _HALF, _ONE, _TWO = F(0), F(0.5), F(1), F(2)


@njit(**STRICT)
def _walk(x, w, start, size, levels, table, begin, room):
    """The best A²/B from scale `begin` on, and its A/B; `room` are arrays for all steps."""
    steps, of_a, of_b = room
    a, b, count = _ZERO, _ZERO, 0
    for i in range(start, start + size):
        code = nearest(x[i] * begin, levels, table)
        a += w[i] * levels[code] * x[i]
        b += w[i] * levels[code] * levels[code]
        direction = 1 if x[i] > _ZERO else -1
        if x[i] == _ZERO:
            continue
        while 0 <= code + direction < levels.size:
            here, there = levels[code], levels[code + direction]
            steps[count] = _HALF * (here + there) / x[i]
            of_a[count] = w[i] * x[i] * (there - here)
            of_b[count] = w[i] * (there * there - here * here)
            count += 1
            code += direction
    best, d = (a * a / b, a / b) if a > _ZERO else (_ZERO, _ZERO)
    for k in np.argsort(steps[:count]):
        a += of_a[k]
        b += of_b[k]
        if a > _ZERO and a * a > best * b:
            best, d = a * a / b, a / b
    return best, d


@njit(**STRICT)
def best_scale(x, w, size, levels, table, both_signs, room):
    """What the walk finds.

    Args:
        x: float32 [2 · size], values of which the largest is 1, then the same negated.
        w: float32 [2 · size], the weights, twice.
        levels: float32, increasing; `table` if they are not integers in a row.
        both_signs: for integers.
        room: three float32 arrays of size · levels.

    Returns:
        (d, F): the scale, of either sign, and A²/B.
    """
    begin = _ZERO if table else max(levels[-1] / _TWO - _HALF, _ZERO)
    if table or both_signs:
        first, d = _walk(x, w, 0, size, levels, table, begin, room)
        second, mirrored = _walk(x, w, size, size, levels, table, begin, room)
        return (d, first) if first >= second else (-mirrored, second)
    side, peak = 0, _ZERO
    for i in range(size):
        if abs(x[i]) > peak:
            peak, side = abs(x[i]), int(x[i] > _ZERO)
    best, d = _walk(x, w, side * size, size, levels, table, begin, room)
    return (-d if side else d), best
