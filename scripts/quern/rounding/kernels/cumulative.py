"""Cumulative search, as llama.cpp's pull request 12557 proposes it.

The scales s at which any code steps to the next level are sorted and walked, with running sums
A = Σ w·q·x and B = Σ w·q². The state with the largest A²/B wins. For integers the walk begins at
half their range (each state below it has an equal one above). Unless both signs are asked for, it
takes the sign that gives the largest value the lowest level. For tables it takes both signs and the
whole range.
"""

import numpy as np
from numba import njit

from ...compiled import STRICT
from .arguments import Steps
from .blocks import nearest

F = np.float32
_ZERO, _HALF, _ONE, _TWO = F(0), F(0.5), F(1), F(2)


@njit(**STRICT)
def steps_for(count):
    """Room for so many steps."""
    return Steps(np.empty(count, F), np.empty(count, F), np.empty(count, F))


@njit(**STRICT)
def _walk(part, side, codebook, begin, steps):
    """The best A²/B from s = `begin` on, and its d = A/B."""
    x, w, levels = part.x, part.w, codebook.levels
    a, b, count = _ZERO, _ZERO, 0
    first = part.start + side * part.size
    for i in range(first, first + part.size):
        code = nearest(x[i] * begin, codebook)
        a += w[i] * levels[code] * x[i]
        b += w[i] * levels[code] * levels[code]
        direction = 1 if x[i] > _ZERO else -1
        if x[i] == _ZERO:
            continue
        while 0 <= code + direction < levels.size:
            here, there = levels[code], levels[code + direction]
            steps.scales[count] = _HALF * (here + there) / x[i]
            steps.of_a[count] = w[i] * x[i] * (there - here)
            steps.of_b[count] = w[i] * (there * there - here * here)
            count += 1
            code += direction
    best, d = (a * a / b, a / b) if a > _ZERO else (_ZERO, _ZERO)
    for k in np.argsort(steps.scales[:count]):
        a += steps.of_a[k]
        b += steps.of_b[k]
        if a > _ZERO and a * a > best * b:
            best, d = a * a / b, a / b
    return best, d


@njit(**STRICT)
def best_scale(part, codebook, both_signs, steps):
    """What the walk finds.

    Args:
        part, codebook: see `arguments`.
        both_signs: for integers; tables always have both.
        steps: room for size · levels steps, from `steps_for`.

    Returns:
        (d, A²/B): the scale, of either sign, and its A²/B.
    """
    table = codebook.cells.size > 0
    begin = _ZERO if table else max(codebook.levels[-1] / _TWO - _HALF, _ZERO)
    if table or both_signs:
        best, d = _walk(part, 0, codebook, begin, steps)
        negated_best, negated_d = _walk(part, 1, codebook, begin, steps)
        return (d, best) if best >= negated_best else (-negated_d, negated_best)
    side, peak = 0, _ZERO
    for i in range(part.start, part.start + part.size):
        if abs(part.x[i]) > peak:
            peak, side = abs(part.x[i]), int(part.x[i] > _ZERO)
    best, d = _walk(part, side, codebook, begin, steps)
    return (-d if side else d), best
