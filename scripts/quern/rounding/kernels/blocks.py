"""What all roundings do with a block before and after the search: weights, values, scale, codes."""

import numpy as np
from numba import njit

from ...compiled import FAST, STRICT, bits_to_float, float_to_bits
from .codebooks import CELL
from .lanes import copy_block, integer_codes

F = np.float32
_ZERO, _ONE, _HALF = F(0), F(1), F(0.5)
_LARGEST_HALF, _SMALLEST_NORMAL_HALF = F(65504), F(2**-14)
_ROUND_SUBNORMAL = F(0.75)  # adding it rounds to a multiple of 2⁻²⁴
RMS = 32  # values whose root mean square is taken; a row is a multiple of it long
SMALLEST = F(2**-40)  # A block with no larger value becomes zeros: its float16 scale would be 0.
NO_WEIGHT = F(1e-30)  # If no weight of a block is larger, all are taken to be the same.
LEAST_WEIGHT = F(1e-12)  # relative to the largest; a value with weight 0 gets a near code too


@njit(**STRICT)
def ten_bits(x):
    """A float32 with no more digits than float16 has, ties to even."""
    bits = float_to_bits(x)
    even = (bits >> np.int32(13)) & np.int32(1)
    return bits_to_float((bits + np.int32(0xFFF) + even) & np.int32(~0x1FFF))


@njit(**STRICT)
def as_half(x):
    """The nearest float16, ties to even, as a float32; never infinite."""
    magnitude = min(abs(x), _LARGEST_HALF)
    if magnitude < _SMALLEST_NORMAL_HALF:
        rounded = (magnitude + _ROUND_SUBNORMAL) - _ROUND_SUBNORMAL
    else:
        rounded = ten_bits(magnitude)
    return rounded if x >= _ZERO else -rounded


@njit(**FAST)
def largest(values, first, size):
    """The largest magnitude among `size` values from `first` on."""
    found = _ZERO
    for i in range(first, first + size):
        found = max(found, abs(values[i]))
    return found


@njit(**FAST)
def weigh(values, weighing, weights):
    """Write the weights of the squared errors in a row; `Weighing` gives the formulas.

    Values are taken relative to the row's largest, so that squares stay in range. That multiplies
    all weights of the row by the same number, which changes nothing.

    Args:
        values: float32 [columns].
        weights: float32 [columns], overwritten.
    """
    importances, span = weighing.importances, weighing.span
    unit = largest(values, 0, values.size)
    per_unit = _ONE / unit if unit > SMALLEST else _ONE
    if importances.size == 0:
        for first in range(0, values.size, RMS):
            total = _ZERO
            for i in range(first, first + RMS):
                x = values[i] * per_unit
                total += x * x
            raised = weighing.multiple * np.sqrt(total / F(RMS))
            for i in range(first, first + RMS):
                x = raised + abs(values[i] * per_unit)
                weights[i] = x * x if weighing.exponent == 2 else x if weighing.exponent else _ONE
    elif span == 0:
        for i in range(values.size):
            weights[i] = importances[i]
    else:
        span = values.size if span < 0 else span
        for first in range(0, values.size, span):
            total = _ZERO
            for i in range(first, first + span):
                x = values[i] * per_unit
                total += x * x
            variance = total * (weighing.share / F(span))
            for i in range(first, first + span):
                x = values[i] * per_unit
                weights[i] = importances[i] * np.sqrt(variance + x * x)


@njit(**FAST)
def load(values, weights, first, unit, heaviest, part):
    """Fill a part with values over `unit` and with weights over `heaviest`.

    Args:
        values, weights: float32 [columns]; those from `first` on are used.
        unit: float32, above 0; the largest magnitude becomes 1 where it is that.
        heaviest: float32, the largest weight of the block, or 0 to take that of the part. If that
            is 0 too, all weights become the same.
        part: a `BlockPart`, whose size is a multiple of 16.

    Returns:
        Σ w·x².
    """
    heaviest = heaviest if heaviest > NO_WEIGHT else largest(weights, first, part.size)
    per_weight = _ONE / heaviest if heaviest > NO_WEIGHT else _ZERO
    return copy_block(values, weights, first, _ONE / unit, per_weight, LEAST_WEIGHT, part)


@njit(**STRICT)
def _table_codes(values, first, size, d, codebook, codes):
    s = _ONE / d
    borders = codebook.cells.size // 2
    for i in range(first, first + size):
        y = values[i] * s
        negative = y < _ZERO
        y = abs(y)
        cell = int(min(y * F(1 / CELL) + _HALF, F(15)))
        beyond = y > codebook.cells[negative * borders + cell]
        below = codebook.cell_codes[negative * 16 + cell]
        codes[i] = np.uint8(below + (-beyond if negative else beyond))


@njit(**STRICT)
def code(values, first, size, d, codebook, codes):
    """Write the codes of the levels nearest to value / d, `size` from `first` on; d is not 0."""
    if codebook.cells.size:
        _table_codes(values, first, size, d, codebook, codes)
    else:
        integer_codes(values, first, size, _ONE / d, codebook, codes)


@njit(**STRICT)
def zero_code(codebook):
    """The code of the weights of a block whose scale is 0."""
    zero = F(codebook.cell_codes[0]) if codebook.cells.size else -codebook.lowest
    return np.uint8(zero)


@njit(**STRICT)
def nearest(y, codebook):
    """The code of the level nearest to y."""
    levels = codebook.levels
    if codebook.cells.size == 0:
        return int(np.rint(min(max(y, levels[0]), levels[-1])) - levels[0])
    code = 0
    while code < levels.size - 1 and y > _HALF * (levels[code] + levels[code + 1]):
        code += 1
    return code


@njit(**STRICT)
def passed(y, middles):
    """How many middles between levels lie below y: the code of the level nearest to it."""
    code = 0
    for k in range(len(middles)):
        code += y > middles[k]
    return code
