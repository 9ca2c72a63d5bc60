"""What all roundings do with a block before and after the search: weights, scale, codes."""

import numpy as np
from numba import njit

from ...compiled import FAST, STRICT, bits_to_float, float_to_bits
from .lanes import CELL, copy_block, integer_codes

F = np.float32
_ZERO, _ONE, _HALF = F(0), F(1), F(0.5)
_LARGEST_HALF, _SMALLEST_NORMAL_HALF = F(65504), F(2**-14)
_ROUND_SUBNORMAL = F(0.75)  # adding it rounds to a multiple of 2⁻²⁴
RMS = 32  # values whose root mean square is taken; rows are whole multiples of it
SMALLEST = F(2**-40)  # where no weight is larger, the scale would be 0 as float16
NO_WEIGHT = F(1e-30)  # a block whose largest weight is no more is taken to have none
LEAST_WEIGHT = F(1e-12)  # of the block's largest; so a value without weight has a code all the same


@njit(**STRICT)
def as_half(x):
    """The nearest float16, ties to even, as a float32; never infinite."""
    size = min(abs(x), _LARGEST_HALF)
    if size < _SMALLEST_NORMAL_HALF:
        rounded = (size + _ROUND_SUBNORMAL) - _ROUND_SUBNORMAL
    else:
        bits = float_to_bits(size)
        even = (bits >> np.int32(13)) & np.int32(1)
        rounded = bits_to_float((bits + np.int32(0xFFF) + even) & np.int32(~0x1FFF))
    return rounded if x >= _ZERO else -rounded


@njit(**FAST)
def largest(values, first, size):
    """The largest magnitude among `size` values from `first` on."""
    found = _ZERO
    for i in range(first, first + size):
        found = max(found, abs(values[i]))
    return found


@njit(**FAST)
def weigh(values, importances, span, share, bare, out):
    """Weights of the squared errors in a row.

    Args:
        values: float32 [columns].
        importances: float32 [columns], or empty for none.
        span, share: with importances, σ² is `share` times the mean square of `span` values, or
            of the row where `span` is -1; weights are importance · √(σ² + value²), or plain
            importances where `span` is 0.
        bare: (spread, power): without importances, weights are the power (0, 1 or 2) of
            |value| + spread times the root mean square of `RMS` values.

    Values are taken relative to the row's largest, so that squares stay in range; a factor common
    to all weights of a row changes nothing.
        out: float32 [columns], overwritten.
    """
    top = largest(values, 0, values.size)
    unit = _ONE / top if top > SMALLEST else _ONE
    if importances.size == 0:
        spread, power = bare
        for first in range(0, values.size, RMS):
            total = _ZERO
            for i in range(first, first + RMS):
                x = values[i] * unit
                total += x * x
            raised = spread * np.sqrt(total / F(RMS))
            for i in range(first, first + RMS):
                x = raised + abs(values[i] * unit)
                out[i] = x * x if power == 2 else x if power == 1 else _ONE
    elif span == 0:
        for i in range(values.size):
            out[i] = importances[i]
    else:
        span = values.size if span < 0 else span
        for first in range(0, values.size, span):
            total = _ZERO
            for i in range(first, first + span):
                x = values[i] * unit
                total += x * x
            variance = total * (share / F(span))
            for i in range(first, first + span):
                x = values[i] * unit
                out[i] = importances[i] * np.sqrt(variance + x * x)


@njit(**FAST)
def load(values, weights, first, size, unit, top, x, w, at):
    """Copy values over `unit` to x and, negated, behind them; weights to w, twice.

    `size` is a multiple of 16.

    Weights are relative to `top`, or to their own largest where `top` is 0, and all alike where
    there is none.

    Returns:
        Σ w·x².
    """
    top = top if top > NO_WEIGHT else largest(weights, first, size)
    per_weight = _ONE / top if top > NO_WEIGHT else _ZERO
    return copy_block(values, weights, first, size, _ONE / unit, per_weight, LEAST_WEIGHT, x, w, at)


@njit(**STRICT)
def code_table(values, first, size, d, cells, below, codes):
    """Codes of a table's levels nearest to values over d.

    Args:
        cells, below: from `lanes.cells_of` and `lanes.codes_of`.
    """
    s = _ONE / d
    steps = cells.size // 2
    for i in range(first, first + size):
        y = values[i] * s
        side = y < _ZERO
        y = abs(y)
        cell = int(min(y * F(1 / CELL) + _HALF, F(15)))
        beyond = y > cells[side * steps + cell]
        codes[i] = np.uint8(below[side * 16 + cell] + (beyond if not side else -beyond))


@njit(**STRICT)
def code(values, first, size, d, lowest, highest, cells, below, codes):
    """Codes of the levels nearest to values over d; d is not 0."""
    if cells.size:
        code_table(values, first, size, d, cells, below, codes)
    else:
        integer_codes(values, first, size, _ONE / d, lowest, highest, codes)


@njit(**STRICT)
def nearest(y, levels, table):
    """The code of the level nearest to y; levels are integers in a row, or a `table`."""
    if not table:
        return int(np.rint(min(max(y, levels[0]), levels[-1])) - levels[0])
    code = 0
    while code < levels.size - 1 and y > _HALF * (levels[code] + levels[code + 1]):
        code += 1
    return code
