"""Rounding `exact` of the types whose sub-blocks also have a minimum (Q2_K, Q4_K, Q5_K).

A weight is scale · factor · code − min scale · min factor. There are too many pairs of a scale and
a minimum to bound them all, so this is a search, not a proof. It has two stages:

1. Each sub-block alone: the best line, value = d · code − minimum. 32 lines are refined, and the
   best is kept. They begin about as wide as the range of the values; some leave out its ends.
2. The two scales of the block: 64 pairs are tried. At these the largest d and the largest minimum
   need about the largest factors that the type can store. Then 16 pairs around the best are tried,
   six times, closer each time. These are float16 values, as they are stored. Each trial rounds
   every sub-block with the factors that suit it.
"""

import numpy as np
from numba import njit

from ...compiled import STRICT
from .arguments import BlockPart, ValueSums, WantedLines
from .blocks import SMALLEST, as_half, largest, load, weigh
from .offset_lanes import (
    LINE_ERROR,
    LINE_MEAN,
    LINE_SCALE,
    PAIR_ERROR,
    PAIR_FACTORS,
    PAIR_MIN_SCALE,
    PAIR_SCALE,
    offset_factors,
    refine_lines,
)
from .vectors import LANES

F = np.float32
_ZERO, _ONE = F(0), F(1)
# The first lines: the width of all codes over the width of the values' range, and which part of the
# excess lies below the range.
SPREADS, BELOW = np.linspace(0.95, 1.5, 8, dtype=F), np.array([0.125, 0.375, 0.625, 0.875], F)
REFINED = 4  # times
# The first pairs: the largest factor and min factor they need, over the largest of the type.
FULL, MIN_FULL = np.linspace(0.85, 1.05, LANES, dtype=F), np.linspace(0.85, 1.02, 4, dtype=F)
# The later pairs: their relative spacing, what it is multiplied by each time, and how often.
NEAR, NEARER, TURNS = F(0.01), F(0.6), 6
_LEAST_HALF = F(2**-24)


@njit(**STRICT)
def best_line(part, highest, centred, lines):
    """The best scale and minimum of a sub-block, and its mean code.

    Args:
        highest: the highest code, float32.
        centred, lines: the `BlockPart` and the lines that `refine_lines` takes, overwritten; the
            weights of `centred` are those of `part`.
    """
    x, w = part.x, part.w
    weight, mean = _ZERO, _ZERO
    low, high = _ZERO, x[0]
    for i in range(part.size):
        weight += w[i]
        mean += w[i] * x[i]
        low, high = min(low, x[i]), max(high, x[i])
    if not high > low:
        return _ZERO, -low, _ZERO
    mean /= weight
    power = _ZERO
    for i in range(part.size):
        centred.x[i] = x[i] - mean
        power += w[i] * centred.x[i] * centred.x[i]
    column = 0
    for spread in SPREADS:
        s = highest * spread / (high - low)
        for below in BELOW:
            lines[LINE_SCALE, column] = s
            excess = highest * (spread - F(0.98)) * below
            lines[LINE_MEAN, column] = max(s * (mean - low) - excess, s * mean)
            column += 1
    moments = ValueSums(weight, mean, power)
    for at in range(0, column, LANES):
        refine_lines(centred, moments, highest, lines, at, REFINED)
    best = np.argmin(lines[LINE_ERROR])
    d, code = _ONE / lines[LINE_SCALE, best], lines[LINE_MEAN, best]
    return d, max(d * code - mean, _ZERO), code


@njit(**STRICT)
def _try_pairs(block, wanted, highest, most, pairs, columns):
    """Try the pairs of scales in the columns; return the best column.

    Args:
        block: the `BlockPart` of the first sub-block; the others follow it.
        wanted, highest, most, pairs: as for `offset_factors`.
    """
    for at in range(0, columns, LANES):
        pairs[PAIR_ERROR, at : at + LANES] = _ZERO
        for b in range(wanted.scales.size):
            part = BlockPart(block.x, block.w, 2 * b * block.size, block.size)
            offset_factors(part, b, wanted, highest, most, pairs, at)
    return np.argmin(pairs[PAIR_ERROR, :columns])


@njit(**STRICT)
def _storable(x, unit):
    """The nearest float16 above 0 to x · unit, over unit."""
    return max(as_half(x * unit), _LEAST_HALF) / unit


@njit(**STRICT)
def code_line(values, first, size, d, minimum, highest, codes):
    """Write the codes nearest to (values + minimum) / d."""
    s = _ONE / d
    for i in range(first, first + size):
        codes[i] = np.uint8(min(max(np.rint((values[i] + minimum) * s), _ZERO), highest))


@njit(**STRICT)
def round_rows(values, weighing, highest, most, result):
    """Round rows, block by block.

    Args:
        values, weighing, result: as for `single.round_rows`.
        highest: the highest code, float32.
        most: the largest factor, float32.
    """
    columns, blocks = values.shape[1], result.scales.shape[1]
    subs = result.factors.shape[1] // blocks
    block_size = columns // blocks
    size = block_size // subs
    weights = np.empty(columns, np.float32)
    alone = BlockPart(np.empty(2 * size, np.float32), np.empty(2 * size, np.float32), 0, size)
    centred = BlockPart(np.empty(size, np.float32), alone.w, 0, size)
    x, w = np.empty(2 * block_size, np.float32), np.empty(2 * block_size, np.float32)
    lines = np.empty((LINE_ERROR + 1, SPREADS.size * BELOW.size), np.float32)
    wanted = WantedLines(
        np.empty(subs, np.float32),
        np.empty(subs, np.float32),
        np.empty(subs, np.float32),
        np.empty(subs, np.float32),
    )
    pairs = np.empty((PAIR_FACTORS + 2 * subs, FULL.size * MIN_FULL.size), np.float32)
    found = np.empty(PAIR_FACTORS + 2 * subs, np.float32)
    result.scales[:], result.min_scales[:] = _ZERO, _ZERO
    result.factors[:], result.min_factors[:] = 0, 0
    result.codes[:] = 0
    for row in range(values.shape[0]):
        of_row = values[row]
        weigh(of_row, weighing, weights)
        for block in range(blocks):
            first = block * block_size
            unit = largest(of_row, first, block_size)
            if not unit > SMALLEST:
                continue
            heaviest = largest(weights, first, block_size)
            widest, deepest = _ZERO, _ZERO
            for b in range(subs):
                here = first + b * size
                part = BlockPart(x, w, 2 * b * size, size)
                wanted.powers[b] = load(of_row, weights, here, unit, heaviest, part)
                d, minimum, code = _ZERO, _ZERO, _ZERO
                sub_unit = largest(of_row, here, size)
                if sub_unit > SMALLEST:
                    load(of_row, weights, here, sub_unit, _ZERO, alone)
                    d, minimum, code = best_line(alone, highest, centred, lines)
                wanted.scales[b] = d * (sub_unit / unit)
                wanted.minima[b] = minimum * (sub_unit / unit)
                wanted.means[b] = code
                widest, deepest = max(widest, wanted.scales[b]), max(deepest, wanted.minima[b])
            widest = widest if widest > _ZERO else deepest
            deepest = deepest if deepest > _ZERO else widest
            column = 0
            for min_full in MIN_FULL:
                for full in FULL:
                    pairs[PAIR_SCALE, column] = widest / (full * most)
                    pairs[PAIR_MIN_SCALE, column] = deepest / (min_full * most)
                    column += 1
            block_part = BlockPart(x, w, 0, size)
            best = _try_pairs(block_part, wanted, highest, most, pairs, column)
            found[:] = pairs[:, best]
            found[PAIR_ERROR] = F(np.inf)  # these scales are no float16 values yet
            spacing = NEAR
            for _ in range(TURNS):
                for k in range(LANES):
                    near, min_near = F(k % 4) - F(1.5), F(k // 4) - F(1.5)
                    scale = found[PAIR_SCALE] * (_ONE + spacing * near)
                    min_scale = found[PAIR_MIN_SCALE] * (_ONE + spacing * min_near)
                    pairs[PAIR_SCALE, k] = _storable(scale, unit)
                    pairs[PAIR_MIN_SCALE, k] = _storable(min_scale, unit)
                best = _try_pairs(block_part, wanted, highest, most, pairs, LANES)
                if pairs[PAIR_ERROR, best] < found[PAIR_ERROR]:
                    found[:] = pairs[:, best]
                spacing *= NEARER
            scale = as_half(found[PAIR_SCALE] * unit)
            min_scale = as_half(found[PAIR_MIN_SCALE] * unit)
            result.scales[row, block], result.min_scales[row, block] = scale, min_scale
            for b in range(subs):
                factor, min_factor = found[PAIR_FACTORS + 2 * b], found[PAIR_FACTORS + 2 * b + 1]
                result.factors[row, block * subs + b] = np.int8(factor)
                result.min_factors[row, block * subs + b] = np.int8(min_factor)
                if factor > _ZERO:
                    d, minimum = scale * factor, min_scale * min_factor
                    code_line(
                        of_row, first + b * size, size, d, minimum, highest, result.codes[row]
                    )
