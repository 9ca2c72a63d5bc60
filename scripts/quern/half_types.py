"""Conversions of half types, compiled: float16 and bfloat16 from and to float32."""

import numpy as np
from numba import njit

from .compiled import EXACT, NO_NAN, bits_to_float, float_to_bits

F = np.float32


@njit(**NO_NAN)
def _widen_float16(bits, out):
    # The exponent is off by 112 after the shift; the product mends it, subnormals included.
    for i in range(bits.size):
        x = np.int32(bits[i])
        size = bits_to_float((x & np.int32(0x7FFF)) << np.int32(13)) * F(2.0**112)
        out[i] = bits_to_float(float_to_bits(size) | ((x & np.int32(0x8000)) << np.int32(16)))


@njit(**EXACT)
def _widen_bfloat16(bits, out):
    for i in range(bits.size):
        out[i] = bits_to_float(np.int32(bits[i]) << np.int32(16))


@njit(**EXACT)
def _narrow_bfloat16(values, out):
    for i in range(values.size):
        x = float_to_bits(values[i])
        even = (x >> np.int32(16)) & np.int32(1)
        out[i] = np.uint16((x + np.int32(0x7FFF) + even) >> np.int32(16))


def to_float32(array: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """A contiguous array of float16, float32 or bfloat16 (bits in uint16) as float32.

    float16 infinities and NaN are not kept as such; weights and hidden states have none. `out`,
    if given, is a contiguous float32 array of that shape to write into.
    """
    if array.dtype == np.float32:
        return array
    out = np.empty(array.shape, np.float32) if out is None else out
    widen = _widen_bfloat16 if array.dtype == np.uint16 else _widen_float16
    widen(array.view(np.uint16).ravel(), out.ravel())
    return out


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """float32 rounded to the nearest bfloat16, ties to even, as bits in uint16."""
    out = np.empty(values.shape, np.uint16)
    _narrow_bfloat16(np.ascontiguousarray(values, np.float32).ravel(), out.ravel())
    return out
