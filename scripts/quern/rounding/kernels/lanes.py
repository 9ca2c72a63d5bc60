"""Sixteen candidate scales at once, for levels that are multiplied by a scale.

Each of the 16 lanes of a vector holds another scale s, and the values pass by one at a time, so
there are no sums across a vector. numba does not make vectors of such loops, so they are written
by hand (see `vectors`). `arguments` describes the named tuples that are passed.

For scale s, the codes are the levels q nearest to x·s, and r = q − x·s is what rounding adds. Two
sums tell all: Σ w·r·x and Σ w·r². They are small where q and x·s are large, so that float32 keeps
the digits that Σ w·q·x and Σ w·q² would lose. With X = Σ w·x²,

    A = Σ w·q·x = s·X + Σ w·r·x
    B = Σ w·q² = s²·X + 2·s·Σ w·r·x + Σ w·r²
    the least error of these codes: X − A²/B = (X·Σ w·r² − (Σ w·r·x)²) / B, at the scale d = A/B
    their error at d = 1/s: Σ w·r² / s²

What is known of candidate scales is kept in `points`, float32 [5, n]: a column for each scale, and
a row for each of s, Σ w·r·x, Σ w·r², the least error, and the bound that `promising` writes.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .codebooks import CELL
from .vectors import FLOAT, INDEX, LANES, MAGIC, VECTOR, Variable, Vector, passed

SCALE, CROSS, SQUARE, ERROR, BOUND = range(5)  # the rows of points
POINT_ROWS = 5
TRIAL_SCALE, TRIAL_ERROR, TRIAL_FACTORS = range(3)  # the rows of trials; see `integer_factors`
NARROW = 1e-6  # An interval is not searched if its width is at most this times its scale.


class _Integers:
    """Residuals r where the levels are consecutive integers."""

    def __init__(self, builder, s, codebook):
        self.builder, self.s = builder, s
        ends = codebook.lowest, codebook.highest
        self.low, self.high = (Vector.broadcast(builder, v) + MAGIC for v in ends)

    def residual(self, value):
        """(r, x) in all lanes for a value x."""
        x = Vector.broadcast(self.builder, value)
        level = x.times_plus(self.s, MAGIC).at_least(self.low).at_most(self.high) - MAGIC
        return (-x).times_plus(self.s, level), x


class _Table:
    """Residuals r where the levels are a table (see `codebooks`); scales are positive."""

    def __init__(self, builder, s, codebook):
        self.builder, self.s, self.cells = builder, s, codebook.cells
        self.s_cells = s * (1 / CELL)

    def residual(self, value):
        """(r, x) in all lanes for a value x; where x is negative, (-r, -x)."""
        builder, index = self.builder, self.cells.columns.type
        negative = builder.fcmp_ordered("<", value, ir.Constant(FLOAT, 0))
        magnitude = builder.select(negative, builder.fneg(value), value)
        first = builder.select(negative, ir.Constant(index, 3 * LANES), ir.Constant(index, 0))
        border, below, above = (
            self.cells.vector(builder.add(first, ir.Constant(index, k * LANES))) for k in range(3)
        )
        x = Vector.broadcast(builder, magnitude)
        cell = x.times_plus(self.s_cells, MAGIC).at_most(MAGIC + LANES - 1).low_bits()
        y = x * self.s
        level = above.lookup(cell).where(y > border.lookup(cell), below.lookup(cell))
        return level - y, x


class _Sums:
    """Σ w·r·x and Σ w·r², added up as the values pass by."""

    def __init__(self, builder):
        self.builder = builder
        self.cross, self.square = (Variable(Vector.constant(builder, 0)) for _ in range(2))

    def add(self, w, r, x):
        weighted = w * r
        self.cross.set(weighted.times_plus(x, self.cross.get()))
        self.square.set(weighted.times_plus(r, self.square.get()))

    def finish(self, points, at, power):
        """Write the sums and the least errors; return the least of these."""
        power = Vector.broadcast(self.builder, power)
        s = points.vector(at, SCALE)
        cross, square = self.cross.get(), self.square.get()
        unrounded = s * s * power  # B if r were 0
        b = (s * power + cross * 2) * s + square
        # Where nearly all codes are 0, float32 knows nothing of B; such codes are not the best.
        error = ((power * square - cross * cross) / b).where(b > unrounded * 1e-4, power)
        for row, value in ((CROSS, cross), (SQUARE, square), (ERROR, error)):
            value.store(points.address(at, row))
        return error.least()


def _first(builder, part, side):
    """Where the values of a side of a `BlockPart` begin."""
    return builder.add(part.start, builder.mul(side, part.size))


def _residuals(rounder_at):
    """What `integer_residuals` and `table_residuals` write."""

    def generate(context, builder, signature, arguments):
        part, side, power, codebook, points, at = passed(
            context, builder, signature.args, arguments
        )
        rounder, sums = rounder_at(builder, points.vector(at), codebook), _Sums(builder)
        first = _first(builder, part, side)
        with cgutils.for_range(builder, part.size) as loop:
            i = builder.add(first, loop.index)
            r, x = rounder.residual(part.x.scalar(i))
            sums.add(Vector.broadcast(builder, part.w.scalar(i)), r, x)
        return sums.finish(points, at, power)

    return generate


@intrinsic
def integer_residuals(typing, part, side, power, codebook, points, at):
    """Try the 16 scales in `points` from column `at` on, where levels are consecutive integers.

    Args:
        part, codebook: a `BlockPart` and a `Codebook`.
        side: 0 for the values, 1 for the negated ones.
        power: Σ w·x², float32.
        points: float32 [5, ≥ at + 16]; sums and errors are written.

    Returns:
        The least of the 16 errors.
    """
    return types.float32(part, side, power, codebook, points, at), _residuals(_Integers)


@intrinsic
def table_residuals(typing, part, side, power, codebook, points, at):
    """As `integer_residuals`, where levels are a table."""
    return types.float32(part, side, power, codebook, points, at), _residuals(_Table)


def _best_factors(rounder_at):
    """What `integer_factors` and `table_factors` write."""

    def generate(context, builder, signature, arguments):
        part, b, wanted, codebook, factor_rule, trials, at = passed(
            context, builder, signature.args, arguments
        )
        side = wanted.sides.scalar(b)
        first = _first(builder, part, side)
        negated = builder.icmp_signed("!=", side, ir.Constant(side.type, 0))
        most = builder.select(negated, builder.fneg(factor_rule.lowest), factor_rule.highest)
        most = Vector.broadcast(builder, most)
        wanted_scale, power = (
            Vector.broadcast(builder, array.scalar(b)) for array in (wanted.scales, wanted.powers)
        )
        zero, one = Vector.constant(builder, 0), Vector.constant(builder, 1)
        scale = trials.vector(at, TRIAL_SCALE)
        # Factors are counted up from the first: half of `reach` lie below the one that is wanted.
        back = builder.fmul(
            builder.sitofp(
                builder.add(factor_rule.reach, ir.Constant(factor_rule.reach.type, 1)), FLOAT
            ),
            ir.Constant(FLOAT, 0.5),
        )
        before = (wanted_scale / scale).at_most(2**20) - Vector.broadcast(builder, back)
        factor = Variable((before + MAGIC) - MAGIC)
        best, chosen, total = Variable(power), Variable(zero), Variable(zero)
        with cgutils.for_range(builder, factor_rule.reach):
            factor.set(factor.get() + 1)
            within = factor.get().at_least(1).at_most(most)
            d = scale * within
            rounder = rounder_at(builder, one / d, codebook)
            total.set(zero)
            with cgutils.for_range(builder, part.size) as loop:
                i = builder.add(first, loop.index)
                r, _ = rounder.residual(part.x.scalar(i))
                weighted = Vector.broadcast(builder, part.w.scalar(i)) * r
                total.set(weighted.times_plus(r, total.get()))
            error = total.get() * d * d
            chosen.set(within.where(error < best.get(), chosen.get()))
            best.set(error.at_most(best.get()))
        (trials.vector(at, TRIAL_ERROR) + best.get()).store(trials.address(at, TRIAL_ERROR))
        row = builder.add(b, ir.Constant(b.type, TRIAL_FACTORS))
        chosen.get().store(trials.address(at, row))
        return context.get_dummy_value()

    return generate


@intrinsic
def integer_factors(typing, part, b, wanted, codebook, factor_rule, trials, at):
    """For each of 16 block scales D, the best factor of one sub-block.

    A weight is D · factor · level; levels are consecutive integers. The factors tried are the
    integers around wanted scale / D, from 1 up. Factor 0 makes all weights 0; it is taken if none
    is better.

    Args:
        part: the sub-block.
        b: its number.
        wanted, codebook, factor_rule: a `Wanted`, a `Codebook` and a `FactorRule`.
        trials: float32 [2 + sub-blocks, ≥ at + 16], a column for each D. Rows are D; the error,
            to which this sub-block's is added; and from there the factors. Row 2 + b is written;
            for side 1 it is the negated factor.
    """
    signature = types.void(part, b, wanted, codebook, factor_rule, trials, at)
    return signature, _best_factors(_Integers)


@intrinsic
def table_factors(typing, part, b, wanted, codebook, factor_rule, trials, at):
    """As `integer_factors`, where levels are a table."""
    return types.void(part, b, wanted, codebook, factor_rule, trials, at), _best_factors(_Table)


@intrinsic
def lay(typing, points, at, first, spacing):
    """Lay 16 scales, `first`, `first + spacing` and so on, from column `at` on."""

    def generate(context, builder, signature, arguments):
        points, at, *numbers = passed(context, builder, signature.args, arguments)
        counts = ir.Constant(VECTOR, [ir.Constant(FLOAT, float(k)) for k in range(LANES)])
        first, spacing = (Vector.broadcast(builder, v) for v in numbers)
        Vector(builder, counts).times_plus(spacing, first).store(points.address(at, SCALE))
        return context.get_dummy_value()

    return types.void(points, at, first, spacing), generate


@intrinsic
def column_of(typing, points, at, error):
    """The first of the 16 columns from `at` on that has this error; one of them must have it."""

    def generate(context, builder, signature, arguments):
        points, at, error = passed(context, builder, signature.args, arguments)
        error = Vector.broadcast(builder, error)
        errors = points.vector(at, ERROR)
        bits = Vector(builder, builder.fcmp_ordered("==", errors.value, error.value)).bits()
        last = ir.Constant(bits.type, 1 << (LANES - 1))
        lane = builder.cttz(builder.or_(bits, last), ir.Constant(ir.IntType(1), 1))
        return builder.add(at, lane)

    return types.int64(points, at, error), generate


@intrinsic
def first_bit(typing, bits):
    """The number of the lowest bit that is set; `bits` is not 0."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), generate


@intrinsic
def promising(typing, points, at, power, goal):
    """Which of 16 intervals may hold an error below `goal`; `exact` says why one may not.

    Interval i lies between the columns at + i and at + i + 1. Its bound, which no error inside it
    is below, is written to the column where it begins.

    Returns:
        int64, a bit for each interval, the lowest for the first.
    """

    def generate(context, builder, signature, arguments):
        points, at, *numbers = passed(context, builder, signature.args, arguments)
        power, goal = (Vector.broadcast(builder, v) for v in numbers)
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
def copy_block(typing, values, weights, first, per_unit, per_weight, least, part):
    """Fill a part: x = value · per_unit, and negated behind; w = weight · per_weight, twice.

    Args:
        values, weights: float32; the `part.size` ones from `first` on are used. The size is a
            multiple of 16.
        per_unit, per_weight: float32.
        least: float32; where w would be less, it is this.

    Returns:
        Σ w·x².
    """

    def generate(context, builder, signature, arguments):
        values, weights, first, *numbers, part = passed(context, builder, signature.args, arguments)
        per_unit, per_weight, least = (Vector.broadcast(builder, v) for v in numbers)
        power = Variable(Vector.constant(builder, 0))
        width = ir.Constant(part.size.type, LANES)
        with cgutils.for_range(builder, builder.sdiv(part.size, width)) as loop:
            i = builder.mul(loop.index, width)
            x = values.vector(builder.add(first, i)) * per_unit
            w = (weights.vector(builder.add(first, i)) * per_weight).at_least(least)
            here = builder.add(part.start, i)
            there = builder.add(here, part.size)
            x.store(part.x.address(here))
            (-x).store(part.x.address(there))
            for place in (here, there):
                w.store(part.w.address(place))
            power.set((w * x).times_plus(x, power.get()))
        return power.get().total()

    signature = types.float32(values, weights, first, per_unit, per_weight, least, part)
    return signature, generate


@intrinsic
def integer_codes(typing, values, first, size, s, codebook, codes):
    """Write the codes of the integers nearest to value · s, `size` of them from `first` on.

    Args:
        values: float32.
        size: a multiple of 16.
        s: float32.
        codebook: a `Codebook` of consecutive integers.
        codes: uint8, as long as the values.
    """

    def generate(context, builder, signature, arguments):
        values, first, size, s, codebook, codes = passed(
            context, builder, signature.args, arguments
        )
        numbers = s, codebook.lowest, codebook.highest
        s, low, high = (Vector.broadcast(builder, v) for v in numbers)
        low, high = low + MAGIC, high + MAGIC
        bytes_ = ir.VectorType(ir.IntType(8), LANES)
        width = ir.Constant(size.type, LANES)
        with cgutils.for_range(builder, builder.sdiv(size, width)) as loop:
            i = builder.add(first, builder.mul(loop.index, width))
            nearest = values.vector(i).times_plus(s, MAGIC).at_least(low).at_most(high) - low
            whole = builder.trunc(builder.fptosi(nearest.value, INDEX), bytes_)
            place = builder.bitcast(codes.address(i), bytes_.as_pointer())
            builder.store(whole, place, align=1)
        return context.get_dummy_value()

    return types.void(values, first, size, s, codebook, codes), generate
