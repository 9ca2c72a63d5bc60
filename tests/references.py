"""Slow references for the tests: in float64, by definition, by brute force.

They share nothing with what they are held against. The benchmarks use them too.
"""

import numpy as np
from numba import njit

from quern import llama
from quern.measure.statistics import PERCENTILES, composite_score
from quern.rounding.layouts import CODED

COMPILE = {"cache": True, "nogil": True, "error_model": "numpy"}


# --- measure ---------------------------------------------------------------------------------


def divergence(base, logits, targets):
    """The figures of each position, in float64, term by term without cancellation."""
    base, logits = (np.asarray(x, np.float32).astype(np.float64) for x in (base, logits))
    log_p = base - np.logaddexp.reduce(base, axis=1, keepdims=True)
    log_q = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    rows, d = np.arange(len(base)), log_p - log_q
    with np.errstate(over="ignore", invalid="ignore"):
        terms = np.where(d > -30, np.exp(log_p) * (np.expm1(-d) + d), np.exp(log_q))
    return {
        "kld": terms.sum(1),
        "nll_base": -log_p[rows, targets],
        "nll": -log_q[rows, targets],
        "dp": np.exp(log_q[rows, targets]) - np.exp(log_p[rows, targets]),
        "same_top": base.argmax(1) == logits.argmax(1),
    }


def summary_figures(f):
    """All figures of a comparison, from flat arrays, by their definitions."""
    out = {}
    for name in ("kld", "dp"):
        x = f[name]
        out |= {f"{name}_mean": x.mean(), f"{name}_std": x.std(), f"{name}_median": np.median(x)}
        out |= {f"{name}_min": x.min(), f"{name}_max": x.max()}
        out |= {f"{name}_p{p:g}": np.percentile(x, p) for p in PERCENTILES}
    out["score"] = composite_score(*(out[f"kld_{q}"] for q in ("median", "p90", "p95", "p99")))
    out["dp_rms"], out["same_top"] = np.sqrt(np.mean(f["dp"] ** 2)), f["same_top"].mean()
    out["ppl"], out["ppl_base"] = np.exp(f["nll"].mean()), np.exp(f["nll_base"].mean())
    out["ppl_ratio"] = out["ppl"] / out["ppl_base"]
    out["ln_ppl_ratio"] = np.log(out["ppl_ratio"])
    out["ppl_difference"] = out["ppl"] - out["ppl_base"]
    out["ppl_correlation"] = np.corrcoef(f["nll"], f["nll_base"])[0, 1]
    return out


# --- rounding --------------------------------------------------------------------------------


def weights_of(kind, values, importances, rounding_name="exact"):
    """The weights that `ErrorWeights` describes, float64."""
    rule, x = CODED[kind].error_weights, values.astype(np.float64)
    if rounding_name == "importance":
        return np.broadcast_to(1.0 if importances is None else importances, x.shape)
    if importances is None:
        spread, power = rule.bare
        rms = np.sqrt((x.reshape(-1, 32) ** 2).mean(1))
        return (spread * np.repeat(rms, 32).reshape(x.shape) + np.abs(x)) ** power
    if rule.span == 0:
        return np.broadcast_to(importances.astype(np.float64), x.shape)
    span = x.shape[1] if rule.span < 0 else rule.span
    variance = rule.share * (x.reshape(-1, span) ** 2).mean(1)
    return importances * np.sqrt(np.repeat(variance, span).reshape(x.shape) + x**2)


def errors_of(kind, values, importances, raw, rounding_name="exact"):
    """Weighted squared error of each block."""
    x, size = values.astype(np.float64), CODED[kind].weights
    w = weights_of(kind, values, importances, rounding_name)
    return ((x - llama.dequantize_rows(kind, raw)) ** 2 * w).reshape(-1, size).sum(1)


def free_errors(kind, values, importances, raw):
    """Weighted squared error of each block's codes, were the scale no float16."""
    layout = CODED[kind]
    q = layout.levels[layout.unpack(raw.reshape(-1, layout.bytes)).codes].astype(np.float64)
    x = values.astype(np.float64).reshape(q.shape)
    w = weights_of(kind, values, importances).reshape(q.shape)
    a, b = (w * q * x).sum(1), (w * q * q).sum(1)
    return (w * x * x).sum(1) - np.divide(a * a, b, out=np.zeros_like(a), where=b > 0)


def levels_of(kind):
    return CODED[kind].levels[-255:].astype(np.float64)


def some_values(shape, kind="normal", seed=0):
    rng = np.random.default_rng(seed)
    draw = {"normal": rng.standard_normal, "laplace": rng.laplace, "t4": rng.standard_t}[kind]
    values = draw(4, shape) if kind == "t4" else draw(size=shape)
    return values.astype(np.float32), np.exp(rng.normal(size=shape[1])).astype(np.float32)


@njit(**COMPILE)
def _nearest(y, levels):
    low, high = 0, levels.size - 1
    while high - low > 1:
        middle = (low + high) // 2
        if levels[middle] <= y:
            low = middle
        else:
            high = middle
    return levels[low] if y - levels[low] <= levels[high] - y else levels[high]


@njit(**COMPILE)
def least_errors(x, w, levels):
    """The least weighted squared error of each block, over all codes and scales.

    All scales at which a code steps are enumerated, of both signs.

    Args:
        x, w: float64 [blocks, size], values and weights.
        levels: float64, increasing; one of them is the nearest to 0.

    Returns:
        float64 [blocks].
    """
    blocks, size = x.shape
    least = np.empty(blocks)
    room = size * levels.size
    steps, of_a, of_b = np.empty(room), np.empty(room), np.empty(room)
    middle = np.argmin(np.abs(levels))
    for block in range(blocks):
        best, power = 0.0, 0.0
        for sign in (1.0, -1.0):
            a, b, count = 0.0, 0.0, 0
            for i in range(size):
                value, weight = sign * x[block, i], w[block, i]
                a += weight * value * levels[middle]
                b += weight * levels[middle] ** 2
                direction = 1 if value > 0 else -1
                code = middle
                while value != 0 and 0 <= code + direction < levels.size:
                    here, there = levels[code], levels[code + direction]
                    code += direction
                    steps[count] = (here + there) / 2 / value
                    of_a[count] = weight * value * (there - here)
                    of_b[count] = weight * (there**2 - here**2)
                    count += 1
            if a > 0:
                best = max(best, a * a / b)
            for k in np.argsort(steps[:count]):
                a += of_a[k]
                b += of_b[k]
                if a > 0:
                    best = max(best, a * a / b)
        for i in range(size):
            power += w[block, i] * x[block, i] ** 2
        least[block] = power - best
    return least


@njit(**COMPILE)
def least_joint_errors(x, w, levels, scales, lowest, highest, size):
    """The least error of blocks with factors, over all given scales and all factors and codes.

    Args:
        x, w, levels: as for `least_errors`.
        scales: float64 [blocks, n].
        lowest, highest: the range of the factors.
        size: weights in a sub-block.

    Returns:
        float64 [blocks].
    """
    least = np.full(x.shape[0], np.inf)
    for block in range(x.shape[0]):
        for scale in scales[block]:
            total = 0.0
            for first in range(0, x.shape[1], size):
                best = np.inf
                for factor in range(lowest, highest + 1):
                    error = 0.0
                    for i in range(first, first + size):
                        d = scale * factor
                        q = _nearest(x[block, i] / d, levels) if d != 0 else 0.0
                        error += w[block, i] * (x[block, i] - d * q) ** 2
                        if error >= best:
                            break
                    best = min(best, error)
                total += best
                if total >= least[block]:
                    break
            least[block] = min(least[block], total)
    return least


@njit(**COMPILE)
def least_line_errors(x, w, highest):
    """The least error of sub-blocks whose weights are D · code − M, with D and M ≥ 0 their own.

    Lines through the values are refined until they stay, from 720 beginnings: a search, but one
    that no factors bind, so what a block can store is hardly ever better.

    Args:
        x, w: float64 [sub-blocks, size], values and weights.
        highest: the highest code.

    Returns:
        float64 [sub-blocks].
    """
    least = np.empty(x.shape[0])
    for row in range(x.shape[0]):
        values, weights = x[row], w[row]
        low, high = min(0.0, values.min()), values.max()
        best = (weights * (values - low) ** 2).sum() if high <= low else np.inf
        for k in range(720 if high > low else 0):
            spread, below = 0.8 + (k // 12) / 60, (k % 12) / 11
            d = (high - low) / (highest * spread)
            m = max(0.0, d * highest * (spread - 1) * below - low)
            error = np.inf
            while True:
                sums = np.zeros(5)
                found = 0.0
                for i in range(values.size):
                    q = min(max(np.rint((values[i] + m) / d), 0.0), highest)
                    found += weights[i] * (values[i] + m - d * q) ** 2
                    sums += weights[i] * np.array([1.0, q, q * q, values[i], q * values[i]])
                if not found < error * (1 - 1e-12):
                    break
                error = found
                one, q1, q2, x1, qx = sums
                spread_of_codes = one * q2 - q1 * q1
                if spread_of_codes <= 1e-12 * one * q2:
                    break
                d = (one * qx - x1 * q1) / spread_of_codes
                m = (q1 * qx - q2 * x1) / spread_of_codes
                if m < 0:
                    d, m = qx / q2, 0.0
                if not d > 0:
                    break
            best = min(best, error)
        least[row] = best
    return least
