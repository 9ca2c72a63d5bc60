"""Sixteen candidates at once, for sub-blocks whose weights are lowered by a minimum.

A weight is D·q − M, with codes q from 0 to `highest`; x are the values less their weighted mean.
For s = 1/D and o = (mean + M)·s, the best codes are the nearest to y = x·s + o, and r = q − y is
what rounding adds; o is about the mean code. As in `lanes`, sums of r tell all. With W = Σ w,
X = Σ w·x², R = Σ w·r, C = Σ w·r·x, V = Σ w·r² − R²/W:

    Σ w·x·q = s·X + C
    Σ w·(q − mean q)² = s²·X + 2·s·C + V
    the least error of these codes: (X·V − C²) / Σ w·(q − mean q)², where
    D = Σ w·x·q / Σ w·(q − mean q)², the mean code is o + R/W, and M = D · mean code − mean value

These D and M are a straight line through the values. Rounding to that line again can only lower
the error. Minima are never negative; where M would be, the best line through 0 is taken.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .vectors import MAGIC, Variable, Vector, passed

LINE_SCALE, LINE_MEAN, LINE_ERROR = range(3)  # the rows of lines: s, o, and the least error
# The rows of pairs; see `offset_factors`.
PAIR_SCALE, PAIR_MIN_SCALE, PAIR_ERROR, PAIR_FACTORS = range(4)
_FAR = 1e-3  # of s·X: where Σ w·x·q is less, the codes hardly follow the values


def _residual(y, low, high):
    """What rounding to a code adds; `low` and `high` are the ends of the codes, plus MAGIC."""
    return (y + MAGIC).at_least(low).at_most(high) - MAGIC - y


def _fit(builder, part, moments, highest, s, o):
    """The line through the values that the codes at s and o have: (error, its s, its o)."""
    weight, mean, power = moments
    sums = [Variable(Vector.constant(builder, 0)) for _ in range(3)]
    low, high = Vector.constant(builder, MAGIC), highest + MAGIC
    with cgutils.for_range(builder, part.size) as loop:
        i = builder.add(part.start, loop.index)
        value = Vector.broadcast(builder, part.x.scalar(i))
        y = value.times_plus(s, o)
        r = _residual(y, low, high)
        weighted = Vector.broadcast(builder, part.w.scalar(i)) * r
        residual, cross, square = sums
        residual.set(residual.get() + weighted)
        cross.set(weighted.times_plus(value, cross.get()))
        square.set(weighted.times_plus(r, square.get()))
    residual, cross, square = (total.get() for total in sums)
    shift = residual / weight
    rest = (square - residual * shift).at_least(0)
    together = s * power + cross
    variance = s * together + s * cross + rest
    follows = together > s * power * _FAR
    error = ((power * rest - cross * cross) / variance).at_least(0).where(follows, power)
    new_s, new_o = (variance / together).where(follows, s), o + shift
    # The same through 0, where M would be negative.
    raw_power = power + mean * mean * weight
    together += mean * (o * weight + residual)
    squares = s * (s * power + cross * 2) + o * (o * weight + residual * 2) + square
    follows = together > 0
    zero_s = (squares / together).where(follows, s)
    zero_error = (raw_power - together * together / squares).where(follows, raw_power)
    negative = new_o < new_s * mean
    return (
        zero_error.where(negative, error),
        zero_s.where(negative, new_s),
        (zero_s * mean).where(negative, new_o),
    )


@intrinsic
def refine_lines(typing, part, moments, highest, lines, at, times):
    """Refine 16 lines: round to each, draw the best line through the codes, and again.

    Args:
        part: a `BlockPart` of values less their weighted mean; only side 0 is used.
        moments: the `ValueSums` of the values themselves.
        highest: the highest code, float32.
        lines: float32 [3, ≥ at + 16], a column for each line. Rows are s, o and the error. Columns
            from `at` on hold the lines to begin with; the best met are written, with their errors.
        times: how often, integer.
    """

    def generate(context, builder, signature, arguments):
        part, moments, highest, lines, at, times = passed(
            context, builder, signature.args, arguments
        )
        moments = [Vector.broadcast(builder, v) for v in moments]
        highest = Vector.broadcast(builder, highest)
        s, o = (Variable(lines.vector(at, row)) for row in (LINE_SCALE, LINE_MEAN))
        best = [Variable(lines.vector(at, row)) for row in (LINE_SCALE, LINE_MEAN)]
        error = Variable(Vector.constant(builder, 3e38))
        with cgutils.for_range(builder, times):
            found, *line = _fit(builder, part, moments, highest, s.get(), o.get())
            for place, kept, value in zip((s, o), best, line, strict=True):
                kept.set(value.where(found < error.get(), kept.get()))
                place.set(value)
            error.set(found.at_most(error.get()))
        for row, place in ((LINE_SCALE, best[0]), (LINE_MEAN, best[1]), (LINE_ERROR, error)):
            place.get().store(lines.address(at, row))
        return context.get_dummy_value()

    return types.void(part, moments, highest, lines, at, times), generate


@intrinsic
def offset_factors(typing, part, b, wanted, highest, most, pairs, at):
    """For each of 16 pairs of block scales, the best factors of one sub-block.

    A weight is scale · factor · code − min scale · min factor. The two factors next to what the
    sub-block wants are tried, and for each the min factor that suits it.

    Args:
        part: the sub-block; only side 0 is used.
        b: its number.
        wanted: `WantedLines`; the powers are the errors if all weights become 0.
        highest: the highest code, float32.
        most: the largest factor, float32; the least is 1, that of minima 0.
        pairs: float32 [3 + 2 · sub-blocks, ≥ at + 16], a column for each pair. Rows are the scale;
            the min scale; the error, to which this sub-block's is added; and from there factor and
            min factor of each sub-block. Those of b are written.
    """

    def generate(context, builder, signature, arguments):
        part, b, wanted, highest, most, pairs, at = passed(
            context, builder, signature.args, arguments
        )
        wanted_scale, minimum, mean, power = (
            Vector.broadcast(builder, array.scalar(b)) for array in wanted
        )
        highest, most = (Vector.broadcast(builder, v) for v in (highest, most))
        zero, one = Vector.constant(builder, 0), Vector.constant(builder, 1)
        low, high = Vector.constant(builder, MAGIC), highest + MAGIC
        scale, min_scale = pairs.vector(at, PAIR_SCALE), pairs.vector(at, PAIR_MIN_SCALE)
        factor = Variable((wanted_scale / scale - 0.5).at_most(2**20) + MAGIC - MAGIC)
        best, chosen, chosen_min = Variable(power), Variable(zero), Variable(zero)
        total = Variable(zero)
        with cgutils.for_range(builder, ir.Constant(part.size.type, 2)):
            within = factor.get().at_least(1).at_most(most)
            d = scale * within
            ideal = (minimum + (d - wanted_scale) * mean) / min_scale
            min_factor = ideal.at_least(0).at_most(most) + MAGIC - MAGIC
            s = one / d
            o = min_factor * min_scale * s
            total.set(zero)
            with cgutils.for_range(builder, part.size) as loop:
                i = builder.add(part.start, loop.index)
                y = Vector.broadcast(builder, part.x.scalar(i)).times_plus(s, o)
                r = _residual(y, low, high)
                weighted = Vector.broadcast(builder, part.w.scalar(i)) * r
                total.set(weighted.times_plus(r, total.get()))
            error = total.get() * d * d
            better = error < best.get()
            chosen.set(within.where(better, chosen.get()))
            chosen_min.set(min_factor.where(better, chosen_min.get()))
            best.set(error.at_most(best.get()))
            factor.set(factor.get() + 1)
        (pairs.vector(at, PAIR_ERROR) + best.get()).store(pairs.address(at, PAIR_ERROR))
        row = builder.mul(b, ir.Constant(b.type, 2))
        for k, place in enumerate((chosen, chosen_min)):
            here = builder.add(row, ir.Constant(row.type, PAIR_FACTORS + k))
            place.get().store(pairs.address(at, here))
        return context.get_dummy_value()

    return types.void(part, b, wanted, highest, most, pairs, at), generate
