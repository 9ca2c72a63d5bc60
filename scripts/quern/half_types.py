"""The inner loops, compiled by numba: conversions of half types, and the divergence of two rows.

Each loop is written so that it compiles to vector instructions; sums of floats are the only places
where the compiler may change the order, and it does so in the same way for every row.
"""

import math

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

F = np.float32
_STRICT = {"contract", "nnan"}  # fused multiply-add, but no other order of operations
_ANY_ORDER = {"contract", "reassoc"}
CHUNK = 4096  # entries worked on at a time: five such arrays stay in the first-level cache


@intrinsic
def bits_to_float(typing, x):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@intrinsic
def float_to_bits(typing, x):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


# --- half types ------------------------------------------------------------------------------


@njit(cache=True, nogil=True, fastmath=_STRICT, error_model="numpy")
def _widen_float16(bits, out):
    # The exponent is off by 112 after the shift; the product mends it, subnormals included.
    for i in range(bits.size):
        x = np.int32(bits[i])
        size = bits_to_float((x & np.int32(0x7FFF)) << np.int32(13)) * F(2.0**112)
        out[i] = bits_to_float(float_to_bits(size) | ((x & np.int32(0x8000)) << np.int32(16)))


@njit(cache=True, nogil=True, error_model="numpy")
def _widen_bfloat16(bits, out):
    for i in range(bits.size):
        out[i] = bits_to_float(np.int32(bits[i]) << np.int32(16))


@njit(cache=True, nogil=True, error_model="numpy")
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


# --- divergence ------------------------------------------------------------------------------

_LOG2E, _LN2_HIGH, _LN2_LOW = F(math.log2(math.e)), F(0.693359375), F(-2.12194440e-4)
_ROUND = F(1.5 * 2**23)  # adding it rounds to an integer, left in the low bits
_SMALLEST = F(-87.3)  # below it exp leaves the normal range of float32
_E2, _E3, _E4, _E5, _E6, _E7 = (F(1 / math.factorial(k)) for k in range(2, 8))
# (e^-d - 1 + d) / d² as a power series, good to 1e-8 for |d| < 2.
_G0, _G1, _G2, _G3, _G4, _G5, _G6, _G7, _G8, _G9, _G10, _G11, _G12 = (
    F((-1) ** k / math.factorial(k + 2)) for k in range(13)
)
_ONE, _TWO, _ZERO = F(1), F(2), F(0)


@njit(cache=True, nogil=True, fastmath=_STRICT, error_model="numpy")
def _exp(x, shift, out):
    """out = e^(x - shift) for x <= shift, to about one unit in the last place."""
    for i in range(x.size):
        y = max(x[i] - shift, _SMALLEST)
        s = y * _LOG2E + _ROUND
        n = s - _ROUND
        r = (y - n * _LN2_HIGH) - n * _LN2_LOW
        p = _E7 * r + _E6
        p = p * r + _E5
        p = p * r + _E4
        p = p * r + _E3
        p = p * r + _E2
        p = p * r + _ONE
        p = p * r + _ONE
        out[i] = bits_to_float(float_to_bits(p) + (float_to_bits(s) << np.int32(23)))


@njit(cache=True, nogil=True, fastmath=_ANY_ORDER, error_model="numpy")
def _sum(x):
    total = 0.0
    for i in range(x.size):
        total += np.float64(x[i])
    return total


@njit(cache=True, nogil=True, fastmath=_STRICT, error_model="numpy")
def _terms(base, other, p_raw, q_raw, p_scale, q_scale, shift, out):
    """out = p · (e^-d - 1 + d) with d = ln p - ln q; no term is negative.

    d is a difference of float32 logits, taken in float64. Where it is small the series keeps its
    digits; elsewhere p · e^-d is q.
    """
    for i in range(base.size):
        p, q = p_raw[i] * p_scale, q_raw[i] * q_scale
        d = F((np.float64(base[i]) - np.float64(other[i])) - shift)
        g = _G12 * d + _G11
        g = g * d + _G10
        g = g * d + _G9
        g = g * d + _G8
        g = g * d + _G7
        g = g * d + _G6
        g = g * d + _G5
        g = g * d + _G4
        g = g * d + _G3
        g = g * d + _G2
        g = g * d + _G1
        g = g * d + _G0
        near = p * (d * d * g)
        far = max(q - p + p * d, _ZERO)
        out[i] = near if abs(d) < _TWO else far


@njit(cache=True, nogil=True, error_model="numpy")
def divergence(base, other, base_top, other_top, targets, kld, nll_base, nll):
    """KL(p ‖ q) and the two negative log-likelihoods of `targets`, row by row, in nats.

    Args:
        base, other: logits, float32 [rows, n_vocab].
        base_top, other_top: index of each row's largest logit.
        targets: index of each row's true token.
        kld, nll_base, nll: float64 [rows], overwritten; `kld` is NaN where a logit is not finite.
    """
    n_vocab = base.shape[1]
    p, q = np.empty(n_vocab, np.float32), np.empty(n_vocab, np.float32)
    terms = np.empty(CHUNK, np.float32)
    for row in range(base.shape[0]):
        b, o = base[row], other[row]
        b_max, o_max = b[base_top[row]], o[other_top[row]]
        p_sum, q_sum, finite = 0.0, 0.0, 0.0
        for i in range(0, n_vocab, CHUNK):
            j = min(i + CHUNK, n_vocab)
            _exp(b[i:j], b_max, p[i:j])
            p_sum += _sum(p[i:j])
            _exp(o[i:j], o_max, q[i:j])
            q_sum += _sum(q[i:j])
            finite += _sum(b[i:j]) + _sum(o[i:j])
        b_log, o_log = np.float64(b_max) + np.log(p_sum), np.float64(o_max) + np.log(q_sum)
        total = 0.0
        for i in range(0, n_vocab, CHUNK):
            j = min(i + CHUNK, n_vocab)
            _terms(
                b[i:j], o[i:j], p[i:j], q[i:j],
                F(1 / p_sum), F(1 / q_sum), b_log - o_log, terms[: j - i],
            )  # fmt: skip
            total += _sum(terms[: j - i])
        kld[row] = total if np.isfinite(finite) else np.nan
        nll_base[row] = b_log - np.float64(b[targets[row]])
        nll[row] = o_log - np.float64(o[targets[row]])
