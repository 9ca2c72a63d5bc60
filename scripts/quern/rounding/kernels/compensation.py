"""Compiled parts of `compensated`: feedback along columns, and descent over codes.

Rows are independent of each other. a is the scale of a column (its block's scale times its
sub-block's factor), m its minimum, so that a weight is a · level − m.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from ...compiled import EXACT, FAST
from .blocks import passed, ten_bits

F = np.float32


class Factors(NamedTuple):
    """What scales of blocks of columns can be.

    Attributes:
        lowest, highest, spacing: float32, of factors.
        steps: float32, increasing; scales of a list, numbered by factors from the lowest on. Empty
            where there is no list.
    """

    lowest: np.float32
    highest: np.float32
    spacing: np.float32
    steps: np.ndarray


@njit(**FAST)
def _nearest(levels, middles, is_integer, target):
    """The code of the level nearest to a target."""
    last = len(levels) - 1
    if is_integer:
        code = np.int64(np.rint(target - levels[0]))
        return min(max(code, 0), last)
    return passed(target, middles)


@njit(**EXACT)
def _half(x):
    """A float32 rounded to float16; itself where that has no normal number."""
    size = abs(x)
    if size < F(6.2e-5) or size > F(65000):
        return x
    return ten_bits(x)


# What a block of columns has: a scale; a scale and a minimum; a scale of a list; a factor; factors
# of its scale and its minimum.
ONE_SCALE, LINE, LISTED, FACTORS, MINIMA = range(5)
_MOST = 32  # candidates of a block
# By which the inverse of a scale is changed, to be tried.
STEPS = F(1) + np.arange(-7, 9).astype(np.float32) * F(0.24 / 7)


@njit(**FAST)
def _candidates(how, scale, factor, min_scale, min_factor, factors, found):
    """Scales and minima to be tried for a block of columns; how many.

    Args:
        scale, min_scale: float32, of the block, or of the super-block.
        factor, min_factor: of the sub-block; integers.
        factors: a `Factors`.
        found: float32 [2, n], written: a and m.
    """
    n = 0
    lowest, highest = factors.lowest, factors.highest
    found[1, :] = F(0)
    if how == ONE_SCALE:
        for step in STEPS:
            for sign in (F(1), F(-1)):
                found[0, n] = _half(sign * scale / step)
                n += 1
        return n
    if how == LINE:
        for i in range(-2, 3):
            for k in range(-2, 3):
                found[0, n] = _half(scale * (F(1) + F(0.03) * i))
                found[1, n] = _half(min_scale + F(0.4) * k * scale)
                n += 1
        return n
    if how == LISTED:
        for i in range(-3, 5):
            near = min(max(factor + i, lowest), highest)
            found[0, n] = factors.steps[np.int64(near - lowest)]
            n += 1
        return n
    reach = 2 if how == MINIMA else 4
    wide = max(F(1), np.rint(F(0.04) * abs(factor)))
    tall = max(F(1), np.rint(F(0.04) * min_factor))
    for i in range(-reach, reach + 1):
        own = min(max(factor + i * wide, lowest), highest)
        for k in range(-reach, reach + 1) if how == MINIMA else range(1):
            least = min(max(min_factor + k * tall, lowest), highest)
            found[0, n] = scale * own
            found[1, n] = min_scale * least if how == MINIMA else F(0)
            n += 1
    return n


@njit(**FAST)
def feed_back(
    y, how, size, scales, own_factors, min_scales, min_factors, factors,
    levels, middles, is_integer, weights, costs, a, m, codes, errors,
):  # fmt: skip
    """Round columns one after the other; the error of each is made up by those after it.

    When a block's turn comes, some scales (or factors and minima) around its own are carried
    through it, each with its feedback, and that of the least loss stays.

    Args:
        y: float32 [rows, columns], changed: what is left to be rounded.
        how: what a block has.
        size: columns of a block, or of a sub-block.
        scales, own_factors, min_scales, min_factors: float32 [rows, blocks].
        factors: a `Factors`.
        levels, middles: float32, of the type, and half-way from each to the next.
        weights: float32 [columns, columns]; row i says by how much columns j > i change for each
            unit of the error of i.
        costs: float32 [columns], of a squared error that is made up by later columns.
        a, m: float32 [rows, columns], written: scale and minimum of each column.
        codes: uint8 [rows, columns], written.
        errors: float32 [rows, columns], written: y less its rounded value, when its turn came.
    """
    rows, columns = y.shape
    found = np.empty((2, _MOST), np.float32)
    left = np.empty((size, _MOST), np.float32)
    inverses, losses, wrong = np.empty((3, _MOST), np.float32)
    bottom, top = levels[0], levels[len(levels) - 1]
    for r in range(rows):
        for b in range(columns // size):
            first, last = b * size, (b + 1) * size
            n = _candidates(
                how, scales[r, b], own_factors[r, b], min_scales[r, b], min_factors[r, b],
                factors, found,
            )  # fmt: skip
            for c in range(n):
                inverses[c] = F(1) / found[0, c] if found[0, c] != 0 else F(0)
                losses[c] = 0
                for i in range(size):
                    left[i, c] = y[r, first + i]
            for i in range(size):  # all candidates side by side
                cost = costs[first + i]
                if is_integer:
                    for c in range(n):
                        level = np.rint((left[i, c] + found[1, c]) * inverses[c])
                        level = min(max(level, bottom), top)
                        wrong[c] = left[i, c] - (found[0, c] * level - found[1, c])
                else:
                    for c in range(n):
                        target = (left[i, c] + found[1, c]) * inverses[c]
                        level = bottom
                        for k in range(len(middles)):
                            step = levels[k + 1] - levels[k]
                            level += step if target > middles[k] else F(0)
                        wrong[c] = left[i, c] - (found[0, c] * level - found[1, c])
                for c in range(n):
                    losses[c] += cost * wrong[c] * wrong[c]
                for j in range(i + 1, size):
                    weight = weights[first + i, first + j]
                    for c in range(n):
                        left[j, c] -= wrong[c] * weight
            best = 0
            for c in range(1, n):
                if losses[c] < losses[best]:
                    best = c
            scale, minimum = found[0, best], found[1, best]
            inverse = F(1) / scale if scale != 0 else F(0)
            for i in range(first, last):
                code = _nearest(levels, middles, is_integer, (y[r, i] + minimum) * inverse)
                error = y[r, i] - (scale * levels[code] - minimum)
                a[r, i], m[r, i], codes[r, i], errors[r, i] = scale, minimum, code, error
                for j in range(i + 1, columns):
                    y[r, j] -= error * weights[i, j]


@njit(**FAST)
def descend(g, a, levels, middles, is_integer, moment, diagonal, codes):
    """Move codes, one at a time, to where they lower eᵀ H e; return how many moved in each row.

    Args:
        g: float32 [rows, n], e H of each row, kept up to date.
        a: float32 [rows, n].
        moment, diagonal: float32 [n, n] and [n], H and its diagonal.
        codes: uint8 [rows, n], changed.
    """
    rows, n = g.shape
    moved = np.zeros(rows, np.int64)
    last = len(levels) - 1
    for r in range(rows):
        for j in range(n):
            scale = a[r, j]
            if scale == 0 or diagonal[j] <= 0:
                continue
            before = codes[r, j]
            target = levels[before] + g[r, j] / (diagonal[j] * scale)
            is_low = before > 0 and target < middles[before - 1]
            if not is_low and (before == last or target <= middles[before]):
                continue
            code = _nearest(levels, middles, is_integer, target)
            change = scale * (levels[code] - levels[before])
            # What the move changes of the loss, exactly.
            if change * (change * diagonal[j] - F(2) * g[r, j]) >= 0:
                continue
            codes[r, j] = code
            for k in range(n):
                g[r, k] -= change * moment[j, k]
            moved[r] += 1
    return moved


@njit(**FAST)
def _change(g, direction, moment, first, last):
    """By how much of a direction eᵀ H e falls most, and (for each unit of it) dᵀ H d."""
    along, across = F(0), F(0)
    for i in range(first, last):
        along += direction[i] * g[i]
        image = F(0)
        for k in range(first, last):
            image += direction[k] * moment[i, k]
        across += direction[i] * image
    return (along / across if across > 0 else F(0)), across


@njit(**FAST)
def _stored(value, unit, factors):
    """The nearest value that can be stored: one of a list, a factor's multiple, or a float16."""
    steps = factors.steps
    if steps.size:
        k = min(max(np.searchsorted(steps, value), 1), steps.size - 1)
        return steps[k - 1] if value - steps[k - 1] < steps[k] - value else steps[k]
    if unit == 0:
        return _half(value)
    lowest, spacing = factors.lowest, factors.spacing
    factor = lowest + spacing * np.rint((value / unit - lowest) / spacing)
    return unit * min(max(factor, lowest), factors.highest)


@njit(**FAST)
def refit(g, a, m, q, units, min_units, has_minima, factors, moment, size, changes):
    """Change each block's scale, and its minimum, to where eᵀ H e is least.

    Args:
        g, moment: as for `descend`, of some columns alone; g is kept up to date.
        a, m: float32 [rows, n], changed; all columns of a block have one.
        q: float32 [rows, n], levels.
        units, min_units: float32 [rows, n / size], what factors multiply; 0 where there are none,
            and a or m is a float16.
        factors: a `Factors`.
        size: columns of a block.
        changes: float32 [rows, n], written: by how much each value changed.
    """
    rows, n = g.shape
    changes[:] = 0
    ones = -np.ones(n, np.float32)
    for r in range(rows):
        for b in range(n // size):
            first, last = b * size, (b + 1) * size
            if a[r, first] == 0:
                continue
            for of_minimum in range(1 + has_minima):
                here, unit = (m, min_units[r, b]) if of_minimum else (a, units[r, b])
                direction = ones if of_minimum else q[r]
                step, across = _change(g[r], direction, moment, first, last)
                wanted = here[r, first] + step
                change = _stored(wanted, unit, factors) - here[r, first]
                if across <= 0 or change * across * (change - F(2) * step) >= 0:
                    continue
                for i in range(first, last):
                    here[r, i] += change
                    changes[r, i] += change * direction[i]
                    for k in range(n):
                        g[r, k] -= change * direction[i] * moment[i, k]
