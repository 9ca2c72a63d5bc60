"""How far a quantized model strays from its baseline, position by position.

For a scored position with baseline probabilities p and quantized probabilities q:

- `kld` = KL(p ‖ q) in nats, as Σ p · (e^(−d) − 1 + d) with d = ln p − ln q. It equals
  Σ p · d because both sum to 1, and no term is negative.
- `nll_base`, `nll`: −ln of the true next token's probability, in nats.
- `dp`: q − p of the true token.
- `same_top`: whether both find the same token likeliest.
"""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit

from ..compiled import EXACT, NO_NAN, REORDERED, bits_to_float, float_to_bits
from ..half_types import to_float32

F = np.float32

FIGURES = {
    "kld": np.float64,
    "nll_base": np.float64,
    "nll": np.float64,
    "dp": np.float64,
    "same_top": np.uint8,
}
_AT_ONCE = 1 << 18  # logits that a thread works on at a time: they stay in its cache
_CHUNK = 4096  # entries worked on at a time: five such arrays stay in the first-level cache


def position_figures(
    base: np.ndarray,
    logits: np.ndarray,
    targets: np.ndarray,
    pool: ThreadPoolExecutor,
    common: int | None = None,
) -> dict[str, np.ndarray]:
    """The figures of some positions; the same for each position whatever the others are.

    Args:
        base, logits: float32 [positions, n_vocab], of the baseline (also float16, or something
            that can be sliced into such arrays) and of the quantized model.
        targets: the true next tokens, int [positions].
        pool: threads to share the positions.
        common: compare over the first so many tokens, with probabilities that add up to 1 over
            them; then both may have others beyond. All tokens where it is None.

    Returns:
        The `FIGURES`, each [positions]. `kld` agrees with a float64 reference to 1e-6 relative or
        1e-9 absolute, and is NaN where a logit is not finite.
    """
    n, step = len(base), max(1, _AT_ONCE // logits.shape[1])
    out = {name: np.empty(n, dtype) for name, dtype in FIGURES.items()}

    def some(start):
        rows = slice(start, start + step)
        b, q = (np.ascontiguousarray(x[rows][:, :common]) for x in (base, logits))
        b = to_float32(b)
        base_top, top = b.argmax(1), q.argmax(1)
        _divergence(
            *(b, q, base_top, top, targets[rows].astype(np.intp)),
            *(out["kld"][rows], out["nll_base"][rows], out["nll"][rows]),
        )
        out["same_top"][rows] = base_top == top

    list(pool.map(some, range(0, n, step)))
    out["dp"][:] = np.exp(-out["nll"]) - np.exp(-out["nll_base"])
    return out


def likelihoods(logits: np.ndarray, targets: np.ndarray, pool: ThreadPoolExecutor) -> np.ndarray:
    """The `nll` of some positions alone, the same bits as `position_figures` gives.

    Args:
        logits: float32 [positions, n_vocab].
        targets: the true next tokens, int [positions].
        pool: threads to share the positions.

    Returns:
        float64 [positions], in nats; not finite where a logit is not.
    """
    out, step = np.empty(len(logits)), max(1, _AT_ONCE // logits.shape[1])

    def some(start):
        rows = slice(start, start + step)
        q = np.ascontiguousarray(logits[rows])
        _likelihood(q, q.argmax(1), targets[rows].astype(np.intp), out[rows])

    list(pool.map(some, range(0, len(logits), step)))
    return out


# --- the loops, compiled ------------------------------------------------------------------------
#
# Sums of floats are the only places where the compiler may change the order, and it does so in the
# same way for every row.

_LOG2E, _LN2_HIGH, _LN2_LOW = F(math.log2(math.e)), F(0.693359375), F(-2.12194440e-4)
_ROUND = F(1.5 * 2**23)  # adding it rounds to an integer, left in the low bits
_SMALLEST = F(-87.3)  # below it exp leaves the normal range of float32
_E2, _E3, _E4, _E5, _E6, _E7 = (F(1 / math.factorial(k)) for k in range(2, 8))
# (e^-d - 1 + d) / d² as a power series, good to 1e-8 for |d| < 2.
_G0, _G1, _G2, _G3, _G4, _G5, _G6, _G7, _G8, _G9, _G10, _G11, _G12 = (
    F((-1) ** k / math.factorial(k + 2)) for k in range(13)
)
_ONE, _TWO, _ZERO = F(1), F(2), F(0)


@njit(**NO_NAN)
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


@njit(**REORDERED)
def _sum(x):
    total = 0.0
    for i in range(x.size):
        total += np.float64(x[i])
    return total


@njit(**NO_NAN)
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


@njit(**EXACT)
def _divergence(base, other, base_top, other_top, targets, kld, nll_base, nll):
    """KL(p ‖ q) and the two negative log-likelihoods of `targets`, row by row, in nats.

    Args:
        base, other: logits, float32 [rows, n_vocab].
        base_top, other_top: index of each row's largest logit.
        targets: index of each row's true token.
        kld, nll_base, nll: float64 [rows], overwritten; `kld` is NaN where a logit is not finite.
    """
    n_vocab = base.shape[1]
    p, q = np.empty(n_vocab, np.float32), np.empty(n_vocab, np.float32)
    terms = np.empty(_CHUNK, np.float32)
    for row in range(base.shape[0]):
        b, o = base[row], other[row]
        b_max, o_max = b[base_top[row]], o[other_top[row]]
        p_sum, q_sum, finite = 0.0, 0.0, 0.0
        for i in range(0, n_vocab, _CHUNK):
            j = min(i + _CHUNK, n_vocab)
            _exp(b[i:j], b_max, p[i:j])
            p_sum += _sum(p[i:j])
            _exp(o[i:j], o_max, q[i:j])
            q_sum += _sum(q[i:j])
            finite += _sum(b[i:j]) + _sum(o[i:j])
        b_log, o_log = np.float64(b_max) + np.log(p_sum), np.float64(o_max) + np.log(q_sum)
        total = 0.0
        for i in range(0, n_vocab, _CHUNK):
            j = min(i + _CHUNK, n_vocab)
            _terms(
                b[i:j], o[i:j], p[i:j], q[i:j],
                F(1 / p_sum), F(1 / q_sum), b_log - o_log, terms[: j - i],
            )  # fmt: skip
            total += _sum(terms[: j - i])
        kld[row] = total if np.isfinite(finite) else np.nan
        nll_base[row] = b_log - np.float64(b[targets[row]])
        nll[row] = o_log - np.float64(o[targets[row]])


@njit(**EXACT)
def _likelihood(other, other_top, targets, nll):
    """The `nll` of `_divergence`, row by row; not finite where a logit is not."""
    n_vocab = other.shape[1]
    q = np.empty(_CHUNK, np.float32)
    for row in range(other.shape[0]):
        o = other[row]
        o_max = o[other_top[row]]
        q_sum, finite = 0.0, 0.0
        for i in range(0, n_vocab, _CHUNK):
            j = min(i + _CHUNK, n_vocab)
            _exp(o[i:j], o_max, q[: j - i])
            q_sum += _sum(q[: j - i])
            finite += _sum(o[i:j])
        o_log = np.float64(o_max) + np.log(q_sum)
        nll[row] = o_log - np.float64(o[targets[row]]) if np.isfinite(finite) else np.nan
