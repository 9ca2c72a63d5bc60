"""Sixteen candidates at once, for sub-blocks whose weights are lowered by a minimum.

A weight is D·q − M, with codes q from 0 to `highest`. For s = 1/D and values x less their weighted
mean, the best codes are the nearest to y = x·s + o, where o is the mean code that D and M make one
expect; r = q − y is what rounding adds. As in `lanes`, sums of r tell all. With W = Σ w,
X = Σ w·x², R = Σ w·r, C = Σ w·r·x, V = Σ w·r² − R²/W:

    Σ w·x·q = s·X + C
    Σ w·(q − mean q)² = s²·X + 2·s·C + V
    the least error of these codes: (X·V − C²) / Σ w·(q − mean q)², where
    D = Σ w·x·q / Σ w·(q − mean q)², the mean code is o + R/W, and M = D · mean code − mean value

That is a straight line through the values, and rounding to it anew can only lower the error.
Minima are never negative; where this one would be, the line goes through 0.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .vectors import MAGIC, Array, Variable, Vector

SCALE, MEAN, ERROR = range(3)  # the rows of fits: s, o, and the least error
TRIAL, MINIMUM, TOTAL, FACTORS = range(4)  # the rows of trials; see `offset_factors`
_FAR = 1e-3  # of s·X: where Σ w·x·q is less, the codes hardly follow the values


def _residual(y, low, high):
    """What rounding to a code adds; `low` and `high` are the ends of the codes, plus MAGIC."""
    return (y + MAGIC).at_least(low).at_most(high) - MAGIC - y


def _fit(builder, x, w, start, count, known, highest, s, o):
    """The line through the values that the codes at s and o have: (error, its s, its o)."""
    power, weight, mean = known
    sums = [Variable(Vector.constant(builder, 0)) for _ in range(3)]
    low, high = Vector.constant(builder, MAGIC), highest + MAGIC
    with cgutils.for_range(builder, count) as loop:
        i = builder.add(start, loop.index)
        value = Vector.spread(builder, x.scalar(i))
        y = value.times_plus(s, o)
        r = _residual(y, low, high)
        weighted = Vector.spread(builder, w.scalar(i)) * r
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
    whole = power + mean * mean * weight
    together += mean * (o * weight + residual)
    squares = s * (s * power + cross * 2) + o * (o * weight + residual * 2) + square
    follows = together > 0
    zero_s = (squares / together).where(follows, s)
    zero_error = (whole - together * together / squares).where(follows, whole)
    negative = new_o < new_s * mean
    return (
        zero_error.where(negative, error),
        zero_s.where(negative, new_s),
        (zero_s * mean).where(negative, new_o),
    )


@intrinsic
def refine_fits(typing, x, w, start, count, power, weight, mean, highest, fits, at, rounds):
    """Refine 16 lines: round to each, draw the best line through the codes, and so on.

    Args:
        x, w: values less their weighted mean, and weights, float32; those from `start` to
            `start + count - 1` are used.
        power, weight, mean: Σ w·x², Σ w, and the mean, float32.
        highest: the highest code, float32.
        fits: float32 [3, ≥ at + 16]; s and o are begun with and overwritten by the best that were
            met, whose error is written.
        rounds: how often, integer.
    """

    def generate(context, builder, signature, arguments):
        x, w, fits = (Array(context, builder, signature.args[k], arguments[k]) for k in (0, 1, 8))
        start, count = arguments[2:4]
        *known, highest = (Vector.spread(builder, v) for v in arguments[4:8])
        at, rounds = arguments[9:11]
        s, o = (Variable(fits.vector(at, row)) for row in (SCALE, MEAN))
        best = [Variable(fits.vector(at, row)) for row in (SCALE, MEAN)]
        error = Variable(Vector.constant(builder, 3e38))
        with cgutils.for_range(builder, rounds):
            found, *line = _fit(builder, x, w, start, count, known, highest, s.get(), o.get())
            for place, kept, value in zip((s, o), best, line, strict=True):
                kept.set(value.where(found < error.get(), kept.get()))
                place.set(value)
            error.set(found.at_most(error.get()))
        for row, place in ((SCALE, best[0]), (MEAN, best[1]), (ERROR, error)):
            place.get().store(fits.address(at, row))
        return context.get_dummy_value()

    return types.void(x, w, start, count, power, weight, mean, highest, fits, at, rounds), generate


@intrinsic
def offset_factors(
    typing, x, w, start, count, power, highest, scale, minimum, mean, most, trials, at, row
):
    """For each of 16 pairs of scales of a super-block, the best factors of one sub-block.

    A weight is trial scale · factor · code − trial minimum · min factor. The two factors around
    what the sub-block wants are tried, and for each the min factor that suits it.

    Args:
        x, w, start, count: values and weights, float32, and which are used.
        power: Σ w·x², float32: the error where all weights become 0.
        highest: the highest code, float32.
        scale, minimum, mean: the sub-block's own best D and M, and their mean code, float32.
        most: the largest factor, float32; the least is 1, that of minima 0.
        trials: float32 [4 + 2 · sub-blocks, ≥ at + 16]: rows of scales, of minima, of errors, to
            which this sub-block's are added, and of factors and min factors, to be written.
        row: which sub-block.
    """

    def generate(context, builder, signature, arguments):
        x, w, trials = (
            Array(context, builder, signature.args[k], arguments[k]) for k in (0, 1, 10)
        )
        start, count = arguments[2:4]
        power, highest, scale, minimum, mean, most = (
            Vector.spread(builder, v) for v in arguments[4:10]
        )
        at, row = arguments[11:13]
        zero, one = Vector.constant(builder, 0), Vector.constant(builder, 1)
        low, high = Vector.constant(builder, MAGIC), highest + MAGIC
        trial, trial_minimum = trials.vector(at, TRIAL), trials.vector(at, MINIMUM)
        factor = Variable((scale / trial - 0.5).at_most(2**20) + MAGIC - MAGIC)
        best, chosen, chosen_minimum = Variable(power), Variable(zero), Variable(zero)
        error = Variable(zero)
        with cgutils.for_range(builder, ir.Constant(start.type, 2)):
            within = factor.get().at_least(1).at_most(most)
            d = trial * within
            wanted = (minimum + (d - scale) * mean) / trial_minimum
            lowering = wanted.at_least(0).at_most(most) + MAGIC - MAGIC
            s = one / d
            o = lowering * trial_minimum * s
            error.set(zero)
            with cgutils.for_range(builder, count) as loop:
                i = builder.add(start, loop.index)
                y = Vector.spread(builder, x.scalar(i)).times_plus(s, o)
                r = _residual(y, low, high)
                weighted = Vector.spread(builder, w.scalar(i)) * r
                error.set(weighted.times_plus(r, error.get()))
            found = error.get() * d * d
            better = found < best.get()
            chosen.set(within.where(better, chosen.get()))
            chosen_minimum.set(lowering.where(better, chosen_minimum.get()))
            best.set(found.at_most(best.get()))
            factor.set(factor.get() + 1)
        (trials.vector(at, TOTAL) + best.get()).store(trials.address(at, TOTAL))
        row = builder.mul(row, ir.Constant(row.type, 2))
        for k, place in enumerate((chosen, chosen_minimum)):
            here = builder.add(row, ir.Constant(row.type, FACTORS + k))
            place.get().store(trials.address(at, here))
        return context.get_dummy_value()

    return types.void(
        x, w, start, count, power, highest, scale, minimum, mean, most, trials, at, row
    ), generate
