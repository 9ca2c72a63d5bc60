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
from .arguments import Workspace
from .lanes import (
    BOUND,
    CROSS,
    LANES,
    POINT_ROWS,
    SCALE,
    SQUARE,
    column_of,
    first_bit,
    integer_residuals,
    lay,
    promising,
    table_residuals,
)

F = np.float32
_ZERO, _ONE, _TWO = F(0), F(1), F(2)
TOLERANCE = F(5e-6)  # An interval is searched if it may lower the error by more than this part.
BEYOND = F(1.1)  # ratio of scales beyond the grid's end, where only odd weights have an optimum
MIRROR = 1024  # column of `points` where the scales of side 1 begin
CAPACITY = 1024  # intervals that can wait
WAITING_SIDE, WAITING_BOUND = 6, 7  # the last rows of `waiting`; three for each end come first


@njit(**STRICT)
def workspace(grid):
    """A `Workspace` for one thread, with the scales of the grid in it."""
    shared, own = grid.shared.size, grid.own.size
    points = np.zeros((POINT_ROWS, 2 * MIRROR), np.float32)
    for side in range(1 + grid.mirrored):
        first = side * MIRROR
        points[SCALE, first : first + shared] = grid.shared
        points[SCALE, first + shared : first + shared + own] = grid.own
    inner = np.zeros((POINT_ROWS, 2 * LANES), np.float32)
    return Workspace(points, inner, np.empty((8, CAPACITY), np.float32))


@njit(**STRICT, inline="always")
def _try_scales(part, side, power, codebook, points, at):
    """Try the 16 scales from column `at` on; return the least error."""
    if codebook.cells.size:
        error = table_residuals(part, side, power, codebook, points, at)
    else:
        error = integer_residuals(part, side, power, codebook, points, at)
    return error


@njit(**STRICT, inline="always")
def _state(points, column):
    """The scale in a column and its two sums."""
    return points[SCALE, column], points[CROSS, column], points[SQUARE, column]


@njit(**STRICT)
def _fitted(s, cross, square, power):
    """The best scale d for the codes at s."""
    return (s * power + cross) / ((s * power + _TWO * cross) * s + square)


@njit(**FAST)
def _clamped_error(part, side, codebook, s):
    """The error of the values that are clamped at scale s.

    It grows with s. If it is greater than an error that was found, the optimum is below s.
    """
    total = _ZERO
    first = part.start + side * part.size
    for i in range(first, first + part.size):
        value = part.x[i] * s
        over = max(max(value - codebook.highest, codebook.lowest - value), _ZERO)
        total += part.w[i] * over * over
    return total / (s * s)


@njit(**STRICT, inline="always")
def _wait(points, at, bits, side, waiting, count):
    """Let the intervals wait that `bits` marks; return how many wait now."""
    while bits and count < CAPACITY:
        i = at + first_bit(bits)
        bits &= bits - 1
        for k in range(2):
            waiting[3 * k, count] = points[SCALE, i + k]
            waiting[3 * k + 1, count] = points[CROSS, i + k]
            waiting[3 * k + 2, count] = points[SQUARE, i + k]
        waiting[WAITING_SIDE, count], waiting[WAITING_BOUND, count] = F(side), points[BOUND, i]
        count += 1
    return count


@njit(**STRICT, inline="always")
def _fill(interval, power, waiting, inner):
    """Lay 16 scales inside an interval; columns 0 and 17 of `inner` become its ends.

    Where a fixed point narrows it, the first or last scale lies there.

    Returns:
        The bits of those of the 17 intervals between that need not be searched.
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
    spacing = (high - low) / F(LANES + 1 - narrower0 - narrower1)
    first = low if narrower0 else low + spacing
    lay(inner, 1, first, spacing)
    return narrower0 | (narrower1 << LANES)


@njit(**STRICT, inline="always")
def best_scale(part, power, codebook, grid, work):
    """The scale whose codes, at their own best scale, have the least weighted squared error.

    Args:
        part: a `BlockPart` whose largest magnitude is 1.
        power: Σ w·x², float32, above 0.
        codebook, grid: see `arguments`.
        work: the `workspace` of this grid.

    Returns:
        (d, side, error): the scale, above 0, for the values of that side.
    """
    points, inner, waiting = work
    shared = grid.shared.size
    best, best_side = F(np.inf), 0
    s, cross, square = _ONE, _ZERO, _ZERO  # of the best
    stops = (0, 0)  # the column after the last one, of each side
    for side in range(1 + grid.mirrored):
        first = side * MIRROR
        at, stop = first, first + shared + grid.own.size
        if side:
            at += shared
            for row in (CROSS, SQUARE):  # the last state that both sides share
                points[row, at - 1] = points[row, shared - 1]
        while at < stop:
            error = _try_scales(part, side, power, codebook, points, at)
            if error < best:
                best, best_side = error, side
                s, cross, square = _state(points, column_of(points, at, error))
            at += LANES
            if at == stop and at + LANES < first + MIRROR:
                last = points[SCALE, at - 1]
                if _clamped_error(part, side, codebook, last) <= best:
                    for lane in range(LANES):
                        last *= BEYOND
                        points[SCALE, at + lane] = last
                    stop += LANES
        stops = (stop, stop) if side == 0 else (stops[0], stop)
    count, goal = 0, best * (_ONE - TOLERANCE)
    for side in range(1 + grid.mirrored):
        at = side * (MIRROR + max(0, shared - 1))
        while at < stops[side] - 1:
            bits = promising(points, at, power, goal)
            bits &= (1 << (stops[side] - 1 - at)) - 1
            count = _wait(points, at, bits, side, waiting, count)
            at += LANES
    while count:
        count -= 1
        if waiting[WAITING_BOUND, count] >= goal:
            continue
        side = int(waiting[WAITING_SIDE, count])
        excluded = _fill(count, power, waiting, inner)
        error = _try_scales(part, side, power, codebook, inner, 1)
        if error < best:
            best, best_side = error, side
            s, cross, square = _state(inner, column_of(inner, 1, error))
            goal = best * (_ONE - TOLERANCE)
        bits = promising(inner, 0, power, goal) & ~excluded
        count = _wait(inner, 0, bits, side, waiting, count)
        if not excluded >> LANES:
            bits = promising(inner, 1, power, goal) >> (LANES - 1)
            count = _wait(inner, LANES, bits, side, waiting, count)
    return _fitted(s, cross, square, power), best_side, best
