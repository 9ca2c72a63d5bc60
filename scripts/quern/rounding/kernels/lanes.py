"""Sixteen candidate scales at once, for levels that are multiplied by a scale.

Each of the 16 lanes of a vector holds another scale s, and the weights pass by one at a time, so
there are no sums across a vector. numba does not make vectors of such loops, so they are written
by hand (see `vectors`).

For scale s, the codes are the levels q nearest to x·s, and r = q − x·s is what rounding adds. Two
sums tell all: Σ w·r·x and Σ w·r². They are small where q and x·s are large, so that float32 keeps
the digits that Σ w·q·x and Σ w·q² would lose. With X = Σ w·x²,

    A = Σ w·q·x = s·X + Σ w·r·x
    B = Σ w·q² = s²·X + 2·s·Σ w·r·x + Σ w·r²
    the least error of these codes: X − A²/B = (X·Σ w·r² − (Σ w·r·x)²) / B, at the scale d = A/B
    their error at d = 1/s: Σ w·r² / s²

What is known of candidate scales is kept in `points`, float32 [5, n], a row for each of s, Σ w·r·x,
Σ w·r², the least error, and the bound of `bounds`.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .vectors import FLOAT, INDEX, LANES, MAGIC, VECTOR, Array, Variable, Vector

SCALE, CROSS, SQUARE, ERROR, BOUND = range(5)  # the rows of points
ROWS = 5
TRIAL, TOTAL, FACTORS = range(3)  # the rows of trials: D, the error, and from there the factors
CELL = 8.0  # width of the cells by which `table_residuals` finds the nearest level
NARROW = 1e-6  # of its scale: intervals of no greater width are not looked into


class _Integers:
    """Residuals r where the levels are the integers lowest … highest."""

    def __init__(self, builder, s, lowest, highest):
        self.builder, self.s = builder, s
        self.low, self.high = (Vector.spread(builder, v) + MAGIC for v in (lowest, highest))

    def residual(self, value):
        """(r, x) in all lanes for a value x."""
        x = Vector.spread(self.builder, value)
        code = x.times_plus(self.s, MAGIC).at_least(self.low).at_most(self.high) - MAGIC
        return (-x).times_plus(self.s, code), x


class _Table:
    """Residuals r where the levels are a table of uneven steps; scales are positive."""

    def __init__(self, builder, s, cells):
        self.builder, self.s, self.cells = builder, s, cells
        self.s_cells = s * (1 / CELL)

    def residual(self, value):
        """(r, x) in all lanes for a value, both as seen from its side of 0."""
        builder, index = self.builder, self.cells.columns.type
        negative = builder.fcmp_ordered("<", value, ir.Constant(FLOAT, 0))
        size = builder.select(negative, builder.fneg(value), value)
        first = builder.select(negative, ir.Constant(index, 3 * LANES), ir.Constant(index, 0))
        step, below, above = (
            self.cells.vector(builder.add(first, ir.Constant(index, k * LANES))) for k in range(3)
        )
        x = Vector.spread(builder, size)
        cell = x.times_plus(self.s_cells, MAGIC).at_most(MAGIC + LANES - 1).low_bits()
        y = x * self.s
        code = above.lookup(cell).where(y > step.lookup(cell), below.lookup(cell))
        return code - y, x


class _Sums:
    """Σ w·r·x and Σ w·r² as the weights pass by."""

    def __init__(self, builder):
        self.builder = builder
        self.cross, self.square = (Variable(Vector.constant(builder, 0)) for _ in range(2))

    def add(self, w, r, x):
        weighted = w * r
        self.cross.set(weighted.times_plus(x, self.cross.get()))
        self.square.set(weighted.times_plus(r, self.square.get()))

    def finish(self, points, at, power):
        """Write the sums and the least errors; return the least of these."""
        power = Vector.spread(self.builder, power)
        s = points.vector(at, SCALE)
        cross, square = self.cross.get(), self.square.get()
        whole = s * s * power
        b = (s * power + cross * 2) * s + square
        # Where nearly all codes are 0, float32 knows nothing of B; such codes are not the best.
        error = ((power * square - cross * cross) / b).where(b > whole * 1e-4, power)
        for row, value in ((CROSS, cross), (SQUARE, square), (ERROR, error)):
            value.store(points.address(at, row))
        return error.least()


def _try(builder, levels, x, w, start, count):
    """Let the weights pass by."""
    sums = _Sums(builder)
    with cgutils.for_range(builder, count) as loop:
        i = builder.add(start, loop.index)
        r, value = levels.residual(x.scalar(i))
        sums.add(Vector.spread(builder, w.scalar(i)), r, value)
    return sums


@intrinsic
def integer_residuals(typing, x, w, start, count, power, lowest, highest, points, at):
    """Try the 16 scales in `points` from `at` on, where levels are the integers lowest … highest.

    Args:
        x, w: values and weights, float32; those from `start` to `start + count - 1` are used.
        power: Σ w·x², float32.
        lowest, highest: float32.

    Returns:
        The least of the 16 errors.
    """

    def generate(context, builder, signature, arguments):
        x, w, points = (Array(context, builder, signature.args[k], arguments[k]) for k in (0, 1, 7))
        start, count, power, lowest, highest, at = (arguments[k] for k in (2, 3, 4, 5, 6, 8))
        levels = _Integers(builder, points.vector(at), lowest, highest)
        return _try(builder, levels, x, w, start, count).finish(points, at, power)

    return types.float32(x, w, start, count, power, lowest, highest, points, at), generate


@intrinsic
def table_residuals(typing, x, w, start, count, power, cells, points, at):
    """Try the 16 scales in `points` from `at` on, where levels are a table of uneven steps.

    Args:
        x, w, start, count, power: as for `integer_residuals`.
        cells: from `cells_of`.

    Returns:
        The least of the 16 errors.
    """

    def generate(context, builder, signature, arguments):
        x, w, cells, points = (
            Array(context, builder, signature.args[k], arguments[k]) for k in (0, 1, 5, 6)
        )
        start, count, power, at = (arguments[k] for k in (2, 3, 4, 7))
        levels = _Table(builder, points.vector(at), cells)
        return _try(builder, levels, x, w, start, count).finish(points, at, power)

    return types.float32(x, w, start, count, power, cells, points, at), generate


def _try_factors(
    builder, levels_at, x, w, start, count, power, wanted, most, reach, trials, at, row
):
    """Try factors around `wanted` / D for 16 scales D of a super-block; see `integer_factors`."""

    wanted, most, power = (Vector.spread(builder, v) for v in (wanted, most, power))
    zero, one = Vector.constant(builder, 0), Vector.constant(builder, 1)
    scale = trials.vector(at, TRIAL)
    back = builder.fmul(
        builder.sitofp(builder.add(reach, ir.Constant(reach.type, 1)), FLOAT),
        ir.Constant(FLOAT, 0.5),
    )
    below = (wanted / scale).at_most(2**20) - Vector.spread(builder, back)
    factor = Variable((below + MAGIC) - MAGIC)
    best, chosen, total = Variable(power), Variable(zero), Variable(zero)
    with cgutils.for_range(builder, reach):
        factor.set(factor.get() + 1)
        within = factor.get().at_least(1).at_most(most)
        d = scale * within
        levels = levels_at(one / d)
        total.set(zero)
        with cgutils.for_range(builder, count) as loop:
            i = builder.add(start, loop.index)
            r, _ = levels.residual(x.scalar(i))
            weighted = Vector.spread(builder, w.scalar(i)) * r
            total.set(weighted.times_plus(r, total.get()))
        error = total.get() * d * d
        chosen.set(within.where(error < best.get(), chosen.get()))
        best.set(error.at_most(best.get()))
    (trials.vector(at, TOTAL) + best.get()).store(trials.address(at, TOTAL))
    row = builder.add(row, ir.Constant(row.type, FACTORS))
    chosen.get().store(trials.address(at, row))


@intrinsic
def integer_factors(
    typing, x, w, start, count, power, lowest, highest, wanted, most, reach, trials, at, row
):
    """For each of 16 scales D of a super-block, the best factor of one sub-block.

    A weight is D · factor · level. The factors tried are the integers around wanted / D.

    Args:
        x, w, start, count, power, lowest, highest: as for `integer_residuals`.
        wanted: the sub-block's own best scale, float32, above 0.
        most: the largest factor; the least is 0, which makes all weights 0.
        reach: how many factors are tried, integer.
        trials: float32 [2 + sub-blocks, ≥ at + 16]: rows of D, of errors, to which this
            sub-block's are added, and of factors, to be written.
        row: which sub-block.
    """

    def generate(context, builder, signature, arguments):
        x, w, trials = (
            Array(context, builder, signature.args[k], arguments[k]) for k in (0, 1, 10)
        )
        start, count, power, lowest, highest = arguments[2:7]
        wanted, most, reach, at, row = (arguments[k] for k in (7, 8, 9, 11, 12))
        _try_factors(
            builder, lambda s: _Integers(builder, s, lowest, highest),
            x, w, start, count, power, wanted, most, reach, trials, at, row,
        )  # fmt: skip
        return context.get_dummy_value()

    return types.void(
        x, w, start, count, power, lowest, highest, wanted, most, reach, trials, at, row
    ), generate


@intrinsic
def table_factors(typing, x, w, start, count, power, cells, wanted, most, reach, trials, at, row):
    """As `integer_factors`, where levels are a table of uneven steps."""

    def generate(context, builder, signature, arguments):
        x, w, cells, trials = (
            Array(context, builder, signature.args[k], arguments[k]) for k in (0, 1, 5, 9)
        )
        start, count, power = arguments[2:5]
        wanted, most, reach, at, row = (arguments[k] for k in (6, 7, 8, 10, 11))
        _try_factors(
            builder, lambda s: _Table(builder, s, cells),
            x, w, start, count, power, wanted, most, reach, trials, at, row,
        )  # fmt: skip
        return context.get_dummy_value()

    return types.void(
        x, w, start, count, power, cells, wanted, most, reach, trials, at, row
    ), generate


@intrinsic
def lay(typing, points, at, first, step):
    """Lay 16 scales, `first`, `first + step` and so on, from column `at` on."""

    def generate(context, builder, signature, arguments):
        _, at, first, step = arguments
        points = Array(context, builder, signature.args[0], arguments[0])
        counts = ir.Constant(VECTOR, [ir.Constant(FLOAT, float(k)) for k in range(LANES)])
        first, step = (Vector.spread(builder, v) for v in (first, step))
        Vector(builder, counts).times_plus(step, first).store(points.address(at, SCALE))
        return context.get_dummy_value()

    return types.void(points, at, first, step), generate


@intrinsic
def column_of(typing, points, at, error):
    """The first of the 16 columns from `at` on that has this error, which one of them has."""

    def generate(context, builder, signature, arguments):
        _, at, error = arguments
        points = Array(context, builder, signature.args[0], arguments[0])
        error = Vector.spread(builder, error)
        known = points.vector(at, ERROR)
        bits = Vector(builder, builder.fcmp_ordered("==", known.value, error.value)).bits()
        last = ir.Constant(bits.type, 1 << (LANES - 1))
        lane = builder.cttz(builder.or_(bits, last), ir.Constant(ir.IntType(1), 1))
        return builder.add(at, lane)

    return types.int64(points, at, error), generate


@intrinsic
def lowest(typing, bits):
    """The place of the lowest bit that is set; `bits` is not 0."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), generate


@intrinsic
def bounds(typing, points, at, power, goal):
    """Which of the 16 intervals, from the points `at` … `at + 15` to those that follow them, may
    hold an error below `goal`; the bounds are written to the points where the intervals begin.

    `exact` says why an interval may not.

    Returns:
        int64, a bit for each interval, the lowest for the first.
    """

    def generate(context, builder, signature, arguments):
        _, at, power, goal = arguments
        points = Array(context, builder, signature.args[0], arguments[0])
        power, goal = (Vector.spread(builder, v) for v in (power, goal))
        after = builder.add(at, ir.Constant(at.type, 1))
        s0, cross0, square0 = (points.vector(at, row) for row in (SCALE, CROSS, SQUARE))
        s1, cross1, square1 = (points.vector(after, row) for row in (SCALE, CROSS, SQUARE))
        width = s1 - s0
        a0, a1 = s0 * power + cross0, s1 * power + cross1
        # (h(s) - s) · A; where h is far above s, the ends of a walk say nothing.
        ahead0, ahead1 = s0 * cross0 + square0, s1 * cross1 + square1
        before = (ahead0 > width * a0) & ~(ahead0 > s0 * a0)
        behind = ahead1 < -(width * a1)
        gain = (width * power - (square1 - square0) / width) * 0.5 - cross0
        gain = gain.at_least(0).at_most(a1 - a0)
        numerator = power * square0 - cross0 * cross0 - gain * (cross0 * 2 + gain)
        bound = numerator / ((a0 + cross0) * s0 + square0 + s0 * gain * 2)
        bound.store(points.address(at, BOUND))
        wide = width > s0 * NARROW
        return ((bound < goal) & wide & ~(before | behind)).bits()

    return types.int64(points, at, power, goal), generate


@intrinsic
def copy_block(typing, values, weights, first, count, unit, top, least, x, w, at):
    """Copy values over `unit` to x and, negated, behind them; weights over `top` to w, twice.

    Args:
        values, weights: float32; `count`, a multiple of 16, are used from `first` on.
        unit, top: float32, multiplied with.
        least: float32, below which no weight falls.
        x, w: float32, written from `at` on.

    Returns:
        Σ w·x².
    """

    def generate(context, builder, signature, arguments):
        values, weights, x, w = (
            Array(context, builder, signature.args[k], arguments[k]) for k in (0, 1, 7, 8)
        )
        first, count, at = (arguments[k] for k in (2, 3, 9))
        unit, top, least = (Vector.spread(builder, arguments[k]) for k in (4, 5, 6))
        power = Variable(Vector.constant(builder, 0))
        width = ir.Constant(count.type, LANES)
        with cgutils.for_range(builder, builder.sdiv(count, width)) as loop:
            i = builder.mul(loop.index, width)
            value = values.vector(builder.add(first, i)) * unit
            weight = (weights.vector(builder.add(first, i)) * top).at_least(least)
            here = builder.add(at, i)
            there = builder.add(here, count)
            for one, place in ((value, x.address(here)), (-value, x.address(there))):
                one.store(place)
            for place in (w.address(here), w.address(there)):
                weight.store(place)
            power.set((weight * value).times_plus(value, power.get()))
        return power.get().total()

    return types.float32(values, weights, first, count, unit, top, least, x, w, at), generate


@intrinsic
def integer_codes(typing, values, first, count, s, lowest, highest, codes):
    """Write the codes of the integers nearest to value · s, `count` of them from `first` on.

    Args:
        values: float32.
        count: a multiple of 16.
        lowest, highest: float32; code 0 is the lowest.
        codes: uint8, as long as the values.
    """

    def generate(context, builder, signature, arguments):
        values, codes = (Array(context, builder, signature.args[k], arguments[k]) for k in (0, 6))
        first, count = arguments[1], arguments[2]
        s, low, high = (Vector.spread(builder, v) for v in arguments[3:6])
        low, high = low + MAGIC, high + MAGIC
        bytes_ = ir.VectorType(ir.IntType(8), LANES)
        width = ir.Constant(count.type, LANES)
        with cgutils.for_range(builder, builder.sdiv(count, width)) as loop:
            i = builder.add(first, builder.mul(loop.index, width))
            nearest = values.vector(i).times_plus(s, MAGIC).at_least(low).at_most(high) - low
            whole = builder.trunc(builder.fptosi(nearest.value, INDEX), bytes_)
            place = builder.bitcast(codes.address(i), bytes_.as_pointer())
            builder.store(whole, place, align=1)
        return context.get_dummy_value()

    return types.void(values, first, count, s, lowest, highest, codes), generate


def cells_of(levels: np.ndarray) -> np.ndarray:
    """What `table_residuals` needs of increasing levels, float32 [2 · 3 · 16].

    Cell k is where |x·s| / CELL rounds to k. For x ≥ 0 and then for x < 0, as seen from there: the
    step (halfway between levels) that lies in each cell, and the levels below and above it. The
    levels must straddle 0, and no cell may hold two steps.
    """
    cells = np.empty((2, 3, LANES), np.float32)
    for side, seen in enumerate((levels, -levels[::-1])):
        steps = (seen[1:] + seen[:-1]) / 2
        positive = steps > 0
        steps, levels_here = steps[positive], seen[np.flatnonzero(positive)[0] :]
        for cell in range(LANES):
            begin, end = (cell - 0.5) * CELL, (cell + 0.5) * CELL
            inside = np.flatnonzero((steps > begin) & (steps <= end))
            passed = int((steps <= begin).sum())
            assert len(inside) < 2
            cells[side, 1, cell] = levels_here[passed]
            cells[side, 2, cell] = levels_here[passed + len(inside)]
            cells[side, 0, cell] = steps[inside[0]] if len(inside) else np.inf
    return cells.ravel()


def codes_of(levels: np.ndarray) -> np.ndarray:
    """The code of the lower level in each cell of `cells_of`, int64 [2 · 16]."""
    below = cells_of(levels).reshape(2, 3, LANES)[:, 1]
    return np.searchsorted(levels, below * np.array([[1], [-1]])).ravel()
