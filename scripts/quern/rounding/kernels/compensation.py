"""Compiled parts of `compensated`: feedback along columns, and descent over codes.

Rows are independent of each other. a is the scale of a column (its block's scale times its
sub-block's factor), m its minimum, so that a weight is a · level − m.
"""

import numpy as np
from numba import njit

from ...compiled import EXACT, FAST, bits_to_float, float_to_bits

F = np.float32


@njit(**FAST)
def _nearest(levels, is_integer, target):
    """The code of the level nearest to a target."""
    last = len(levels) - 1
    if is_integer:
        code = np.int64(np.rint(target - levels[0]))
        return min(max(code, 0), last)
    low, high = 0, last
    while high - low > 1:
        middle = (low + high) // 2
        if levels[middle] <= target:
            low = middle
        else:
            high = middle
    return low if target - levels[low] <= levels[high] - target else high


@njit(**FAST)
def feed_back(y, a, m, levels, is_integer, weights, codes, errors):
    """Round columns one after the other; the error of each is made up by those after it.

    Args:
        y: float32 [rows, columns], changed: what is left to be rounded.
        a, m: float32 [rows, columns].
        weights: float32 [columns, columns]; row i says by how much columns j > i change for each
            unit of the error of i.
        codes: uint8 [rows, columns], written.
        errors: float32 [rows, columns], written: y less its rounded value, when its turn came.
    """
    rows, columns = y.shape
    for r in range(rows):
        for i in range(columns):
            scale = a[r, i]
            code = 0
            if scale != 0:
                code = _nearest(levels, is_integer, (y[r, i] + m[r, i]) / scale)
            else:
                code = _nearest(levels, is_integer, F(0))
            error = y[r, i] - (scale * levels[code] - m[r, i])
            codes[r, i] = code
            errors[r, i] = error
            for j in range(i + 1, columns):
                y[r, j] -= error * weights[i, j]


@njit(**FAST)
def descend(g, a, levels, is_integer, moment, codes):
    """Move codes, one at a time, to where they lower eᵀ H e; return how many moved in each row.

    Args:
        g: float32 [rows, n], e H of each row, kept up to date.
        a: float32 [rows, n].
        moment: float32 [n, n], H.
        codes: uint8 [rows, n], changed.
    """
    rows, n = g.shape
    moved = np.zeros(rows, np.int64)
    for r in range(rows):
        for j in range(n):
            scale = a[r, j]
            if scale == 0 or moment[j, j] <= 0:
                continue
            before = codes[r, j]
            target = levels[before] + g[r, j] / (moment[j, j] * scale)
            code = _nearest(levels, is_integer, target)
            if code == before:
                continue
            change = scale * (levels[code] - levels[before])
            # What the move changes of the loss, exactly.
            if change * (change * moment[j, j] - F(2) * g[r, j]) >= 0:
                continue
            codes[r, j] = code
            for k in range(n):
                g[r, k] -= change * moment[j, k]
            moved[r] += 1
    return moved


@njit(**EXACT)
def _half(x):
    """A float32 rounded to float16; itself where that has no normal number."""
    size = abs(x)
    if size < F(6.2e-5) or size > F(65000):
        return x
    bits = float_to_bits(x)
    even = (bits >> np.int32(13)) & np.int32(1)
    return bits_to_float((bits + np.int32(0xFFF) + even) & ~np.int32(0x1FFF))


@njit(**FAST)
def refit(g, a, units, lowest, highest, levels, codes, moment, size):
    """Change the scale of each block of columns, or its whole factor, to where eᵀ H e is least.

    Args:
        g, codes, moment: as for `descend`; g is kept up to date.
        a: float32 [rows, n], changed; all columns of a block have one.
        units: float32 [rows, n / size], the scale that factors multiply; 0 where there are none,
            and a is a float16.
        lowest, highest: of factors.
        size: columns of a block.
    """
    rows, n = g.shape
    image = np.empty(n, np.float32)
    for r in range(rows):
        for b in range(n // size):
            first, last = b * size, (b + 1) * size
            along = F(0)
            image[:] = 0
            for i in range(first, last):
                level = levels[codes[r, i]]
                along += level * g[r, i]
                for k in range(n):
                    image[k] += level * moment[i, k]
            across = F(0)
            for i in range(first, last):
                across += levels[codes[r, i]] * image[i]
            if across <= 0 or a[r, first] == 0:
                continue
            before, unit = a[r, first], units[r, b]
            after = before + along / across
            if unit != 0:
                factor = min(max(np.rint(after / unit), lowest), highest)
                after = unit * factor
            else:
                after = _half(after)
            change = after - before
            if change * (change * across - F(2) * along) >= 0:
                continue
            for i in range(first, last):
                a[r, i] = after
            for k in range(n):
                g[r, k] -= change * image[k]
