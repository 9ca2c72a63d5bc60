"""Compiled part of `grids`: descent over entries of a grid and over signs."""

import numpy as np
from numba import njit

from ...compiled import FAST

F = np.float32
_SIGNS = 8  # signs that are stored together


@njit(**FAST)
def _rise(g, moment, first, size, change):
    """What a change of `size` weights from `first` on adds to eᵀ H e."""
    total = F(0)
    for i in range(size):
        image = F(-2) * g[first + i]
        for k in range(size):
            image += moment[first + i, first + k] * change[k]
        total += change[i] * image
    return total


@njit(**FAST)
def _apply(g, moment, first, size, change):
    for i in range(size):
        if change[i] != 0:
            for k in range(g.size):
                g[k] -= change[i] * moment[first + i, k]


@njit(**FAST)
def _move(g, a, grid, near, moment, entries, signed, group):
    """Move a group of a row to the entry near its own where eᵀ H e is least; whether it moved."""
    size = grid.shape[1]
    first = group * size
    scale, own = a[first], entries[group]
    change, best_change = np.zeros(8, np.float32), np.zeros(8, np.float32)
    best, least = own, F(0)
    for entry in near[own]:
        for i in range(size):
            wider = scale * (grid[entry, i] - grid[own, i])
            change[i] = wider if signed[first + i] > 0 else -wider
        rise = _rise(g, moment, first, size, change)
        if rise < least:
            best, least = entry, rise
            best_change[:] = change
    if best == own:
        return False
    _apply(g, moment, first, size, best_change)
    entries[group] = best
    for i in range(size):
        magnitude = grid[best, i]
        signed[first + i] = magnitude if signed[first + i] > 0 else -magnitude
    return True


@njit(**FAST)
def _flip(g, a, any_signs, moment, diagonal, signed, first):
    """Change the sign of a weight, or of two of eight, where eᵀ H e falls most; whether one is."""
    least, one, other = F(0), -1, -1
    for i in range(first, first + _SIGNS):
        change = F(-2) * a[i] * signed[i]
        rise = change * (change * diagonal[i] - F(2) * g[i])
        if any_signs and rise < least:
            least, one = rise, i
        for k in range(i + 1, first + _SIGNS if not any_signs else i):
            second = F(-2) * a[k] * signed[k]
            both = rise + second * (second * diagonal[k] - F(2) * g[k])
            both += F(2) * change * second * moment[i, k]
            if both < least:
                least, one, other = both, i, k
    if one < 0:
        return False
    for i in (one, other):
        if i >= 0:
            change = F(-2) * a[i] * signed[i]
            signed[i] = -signed[i]
            for k in range(g.size):
                g[k] -= change * moment[i, k]
    return True


@njit(**FAST)
def descend(g, a, grid, near, any_signs, moment, diagonal, entries, signed):
    """Move groups, one at a time, to entries and signs that lower eᵀ H e; how many, in each row.

    Args:
        g: float32 [rows, n], e H of each row, kept up to date.
        a: float32 [rows, n], what signed magnitudes are multiplied by.
        grid, near: of the type, see `grids.GridType`.
        any_signs: whether each sign is free.
        moment, diagonal: float32 [n, n] and [n], H and its diagonal.
        entries: int64 [rows, groups], changed.
        signed: float32 [rows, n], changed: signed magnitudes.
    """
    rows, n = g.shape
    moved = np.zeros(rows, np.int64)
    groups = _SIGNS // grid.shape[1]
    for r in range(rows):
        for u in range(n // _SIGNS):
            if a[r, u * _SIGNS] == 0:
                continue
            for k in range(groups):
                moved[r] += _move(
                    g[r], a[r], grid, near, moment, entries[r], signed[r], u * groups + k
                )
            moved[r] += _flip(g[r], a[r], any_signs, moment, diagonal, signed[r], u * _SIGNS)
    return moved
