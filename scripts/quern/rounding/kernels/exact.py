"""The best codes and scale of a block: the global optimum, by bounds instead of enumeration.

For a scale d, the best code of x is the level nearest to x·s, s = 1/d. So the optimum is among the
states that a walk along s passes, from one step of a code to the next. Between two scales
s0 < s1 lie states that need not be looked at, if one of two things shows that none is the best:

- *Fixed points.* Let h(s) = B/A be 1/d of the best scale d for the codes at s. The optimum is a
  fixed point, h(s) = s, and h does not decrease (a step adds some α to A and 2·s·α to B). So it is
  neither between s0 and h(s0), nor between h(s1) and s1.
- *The bound.* On the way from s0 to s1, a growth of A by α takes a growth of B by at least 2·s0·α,
  and by at least what B grows in all less 2·s1 times what is left for A. A²/B is convex along both
  lines, so it is largest where they meet or at an end.

Sixteen scales are tried at once (see `lanes` for the sums): first a grid, then the inside of each
interval that is left, until none is.

Scales are those of values whose largest is 1. Below half the range of the levels each state has an
equal one with doubled codes, so the grid begins there. Where no value is clamped, scales of both
signs have the same states; above, the negative ones are tried with the values negated.
"""

import numpy as np
from numba import njit

from ...compiled import FAST, STRICT
from .lanes import (
    BOUND,
    CROSS,
    LANES,
    ROWS,
    SCALE,
    SQUARE,
    bounds,
    column_of,
    integer_residuals,
    lay,
    table_residuals,
)
from .lanes import lowest as lowest_bit

F = np.float32
_ZERO, _ONE, _TWO = F(0), F(1), F(2)
TOLERANCE = F(5e-6)  # of the error, by which an interval must promise to be better
BEYOND = F(1.1)  # step of the grid beyond its end, where only odd weights have an optimum
MIRROR = 1024  # column of `points` where those of the mirrored side begin
ROOM = 1024  # intervals that can wait
SIDE, LIMIT = 6, 7  # rows of `waiting`


@njit(**STRICT)
def workspace(grid):
    """Arrays that a search works in, one set for each thread.

    Args:
        grid: (shared, own, mirrored): increasing scales to begin with, multiples of 16 of them,
            where no value is clamped and above; whether negative scales differ there.

    Returns:
        (points, inner, waiting): the grid and what is known of it, a column a scale; the same for
        the inside of an interval; intervals, a column each: s, Σ w·r·x and Σ w·r² of both ends,
        the side and the bound.
    """
    shared, own, mirrored = grid
    a, b = shared.size, own.size
    points = np.zeros((ROWS, 2 * MIRROR), np.float32)
    for side in range(1 + mirrored):
        first = side * MIRROR
        points[SCALE, first : first + a] = shared
        points[SCALE, first + a : first + a + b] = own
    inner = np.zeros((ROWS, 2 * LANES), np.float32)
    waiting = np.empty((8, ROOM), np.float32)
    return points, inner, waiting


@njit(**STRICT, inline="always")
def _try_scales(x, w, start, size, power, lowest, highest, cells, points, at):
    """Try the 16 scales from `at` on; return the least error."""
    if cells.size:
        error = table_residuals(x, w, start, size, power, cells, points, at)
    else:
        error = integer_residuals(x, w, start, size, power, lowest, highest, points, at)
    return error


@njit(**STRICT, inline="always")
def _known(points, column):
    """The scale in a column and its two sums."""
    return points[SCALE, column], points[CROSS, column], points[SQUARE, column]


@njit(**STRICT)
def _fitted(s, cross, square, power):
    """The best scale d for the codes at s."""
    return (s * power + cross) / ((s * power + _TWO * cross) * s + square)


@njit(**FAST)
def _clipped(x, w, start, size, lowest, highest, s):
    """Error of the values beyond the outermost levels at scale s.

    It grows with s; where it is greater than an error that was found, the optimum is below.
    """
    total = _ZERO
    for i in range(start, start + size):
        value = x[i] * s
        over = max(max(value - highest, lowest - value), _ZERO)
        total += w[i] * over * over
    return total / (s * s)


@njit(**STRICT, inline="always")
def _wait(points, at, bits, side, waiting, count):
    """Let the intervals wait that `bits` marks; return how many wait now."""
    while bits and count < ROOM:
        i = at + lowest_bit(bits)
        bits &= bits - 1
        for k in range(2):
            waiting[3 * k, count] = points[SCALE, i + k]
            waiting[3 * k + 1, count] = points[CROSS, i + k]
            waiting[3 * k + 2, count] = points[SQUARE, i + k]
        waiting[SIDE, count], waiting[LIMIT, count] = F(side), points[BOUND, i]
        count += 1
    return count


@njit(**STRICT, inline="always")
def _fill(interval, power, waiting, inner):
    """Lay 16 scales inside an interval; columns 0 and 17 of `inner` become its ends.

    Where a fixed point narrows it, the first or last scale lies there.

    Returns:
        The bits of those of the 17 intervals between that need not be looked at.
    """
    for k in range(2):
        column = k * (LANES + 1)
        inner[SCALE, column] = waiting[3 * k, interval]
        inner[CROSS, column] = waiting[3 * k + 1, interval]
        inner[SQUARE, column] = waiting[3 * k + 2, interval]
    s0, s1 = inner[SCALE, 0], inner[SCALE, LANES + 1]
    cross0, cross1 = inner[CROSS, 0], inner[CROSS, LANES + 1]
    h0 = s0 + (s0 * cross0 + inner[SQUARE, 0]) / (s0 * power + cross0)
    h1 = s1 + (s1 * cross1 + inner[SQUARE, LANES + 1]) / (s1 * power + cross1)
    narrower0, narrower1 = s0 < h0 <= _TWO * s0, h1 < s1
    low = min(h0, s1) if narrower0 else s0
    high = max(h1, low) if narrower1 else s1
    step = (high - low) / F(LANES + 1 - narrower0 - narrower1)
    first = low if narrower0 else low + step
    lay(inner, 1, first, step)
    return narrower0 | (narrower1 << LANES)


@njit(**STRICT, inline="always")
def best_scale(x, w, size, power, lowest, highest, cells, grid, points, inner, waiting):
    """The scale whose codes, at their own best scale, have the least weighted squared error.

    Args:
        x: float32 [2 · size], values of which the largest is 1, then the same negated.
        w: float32 [2 · size], the weights, twice.
        power: Σ w·x², above 0.
        levels: (lowest, highest, cells): float32 bounds of the levels, and their `lanes.cells_of`,
            or an empty array where they are all the integers between.
        grid, work: as for and from `workspace`.

    Returns:
        (d, side, error): the scale, for the values or, where side is 1, for the negated ones.
    """
    shared, own, mirrored = grid  # how many scales
    best, best_side = F(np.inf), 0
    s, cross, square = _ONE, _ZERO, _ZERO  # of the best
    ends = (0, 0)
    for side in range(1 + mirrored):
        first = side * MIRROR
        at, end = first, first + shared + own
        if side:
            at += shared
            for row in (CROSS, SQUARE):  # the last state that both sides share
                points[row, at - 1] = points[row, shared - 1]
        while at < end:
            error = _try_scales(x, w, side * size, size, power, lowest, highest, cells, points, at)
            if error < best:
                best, best_side = error, side
                column = column_of(points, at, error)
                s, cross, square = (
                    points[SCALE, column],
                    points[CROSS, column],
                    points[SQUARE, column],
                )
            at += LANES
            room = at + LANES < first + MIRROR
            if at == end and room:
                last = points[SCALE, at - 1]
                if _clipped(x, w, side * size, size, lowest, highest, last) <= best:
                    for lane in range(LANES):
                        last *= BEYOND
                        points[SCALE, at + lane] = last
                    end += LANES
        ends = (end, end) if side == 0 else (ends[0], end)
    count, goal = 0, best * (_ONE - TOLERANCE)
    for side in range(1 + mirrored):
        at = side * (MIRROR + max(0, shared - 1))
        while at < ends[side] - 1:
            bits = bounds(points, at, power, goal)
            bits &= (1 << (ends[side] - 1 - at)) - 1
            count = _wait(points, at, bits, side, waiting, count)
            at += LANES
    while count:
        count -= 1
        if waiting[LIMIT, count] >= goal:
            continue
        side = int(waiting[SIDE, count])
        known = _fill(count, power, waiting, inner)
        error = _try_scales(x, w, side * size, size, power, lowest, highest, cells, inner, 1)
        if error < best:
            best, best_side = error, side
            column = column_of(inner, 1, error)
            s, cross, square = _known(inner, column)
            goal = best * (_ONE - TOLERANCE)
        bits = bounds(inner, 0, power, goal) & ~known
        count = _wait(inner, 0, bits, side, waiting, count)
        if not known >> LANES:
            bits = bounds(inner, 1, power, goal) >> (LANES - 1)
            count = _wait(inner, LANES, bits, side, waiting, count)
    return _fitted(s, cross, square, power), best_side, best
