"""Summary figures of a comparison, each with a 95 % interval.

Positions of one window are correlated, so windows are resampled, not positions (cluster
bootstrap). One function of the windows' weights computes all figures. Weights of 1 give the figures
themselves. Multinomial weights give a bootstrap replicate. Weights of 0 for some windows give a
jackknife replicate, and a 1 for a single window gives the figures of that window.

Intervals of figures are BCa (Efron, "Better bootstrap confidence intervals", 1987), widened for
few windows as by Hesterberg ("What teachers should know about the bootstrap", 2015). Intervals of
paired differences are Student's with the bootstrap's standard error: resampled quantiles of two
nearly equal samples jump together, and BCa takes the jumps for bias
(docs/measurements/intervals.md).
"""

import functools
from dataclasses import dataclass

import numpy as np
from scipy import special

CONFIDENCE = 0.95
RESAMPLES = 2000
SEED = 0  # the same resampled windows for every recipe, so that differences are paired
PERCENTILES = (99.9, 99, 95, 90, 75, 25, 10, 5, 1, 0.1)
FIGURES = (
    *(
        f"{name}_{place}"
        for name in ("kld", "dp")
        for place in ("mean", "std", "median", *(f"p{p:g}" for p in PERCENTILES))
    ),
    *("score", "dp_rms", "same_top", "ppl", "ppl_base", "ln_ppl_ratio", "ppl_ratio"),
    *("ppl_difference", "ppl_correlation"),
)
EXTREMES = ("min", "max")  # of a sample; they estimate nothing, so they carry no interval
_GROUPS = 200  # the jackknife leaves out windows in at most so many groups
_BLOCK = 1 << 24  # bound on the elements of one array of weights


def composite_score(median, p90, p95, p99):
    """median^(1/3) · (KLD99 + 4 · KLD95 + 5 · KLD90)^(2/3), in nats; lower is better."""
    tail = p99 + 4 * p95 + 5 * p90
    return np.maximum(median, 0) ** (1 / 3) * np.maximum(tail, 0) ** (2 / 3)


class _Quantiles:
    """Order statistics of positions whose windows are weighted.

    The values are sorted once and cut into buckets. A table counts the values of each window that
    lie below each bucket. So an order statistic is found by a matrix product and a short scan.
    """

    def __init__(self, values: np.ndarray, window: np.ndarray, n_windows: int):
        order = np.argsort(values, kind="stable")
        self._values, self._window = values[order], window[order]
        self._size = max(16, -(-len(values) // 1024))
        n_buckets = -(-len(values) // self._size)
        cell = self._window * n_buckets + np.arange(len(values)) // self._size
        counts = np.bincount(cell, minlength=n_windows * n_buckets).reshape(n_windows, n_buckets)
        self._below = np.zeros((n_windows, n_buckets + 1))
        np.cumsum(counts, axis=1, out=self._below[:, 1:])

    def at(self, weights: np.ndarray, levels: list[float]) -> np.ndarray:
        """Quantiles [replicates, levels] with linear interpolation, numpy's default."""
        below = weights @ self._below
        out = np.empty((len(weights), len(levels)))
        for column, level in enumerate(levels):
            place = level * (below[:, -1] - 1)
            low = np.floor(place)
            first, second = (self._ordered(weights, below, rank) for rank in (low, np.ceil(place)))
            out[:, column] = first + (place - low) * (second - first)
        return out

    def _ordered(self, weights, below, rank):
        """The value of each replicate with `rank` values before it."""
        bucket = (below <= rank[:, None]).sum(1) - 1
        place = bucket[:, None] * self._size + np.arange(self._size)
        inside = place < len(self._values)
        place = np.minimum(place, len(self._values) - 1)
        rows = np.arange(len(weights))
        counts = weights[rows[:, None], self._window[place]] * inside
        passed = below[rows, bucket][:, None] + np.cumsum(counts, axis=1)
        step = np.minimum((passed <= rank[:, None]).sum(1), self._size - 1)
        return self._values[place[rows, step]]


class Sample:
    """The positions of a comparison, ready for weighing their windows.

    Args:
        figures: `divergence.FIGURES`, each [windows, positions].
        mask: bool [windows, positions], the positions that count; all where it is None.
    """

    def __init__(self, figures: dict[str, np.ndarray], mask: np.ndarray | None = None):
        shape = figures["kld"].shape
        mask = np.ones(shape, bool) if mask is None else mask
        kept = np.flatnonzero(mask.any(1))  # windows without such a position do not count
        mask = mask[kept]
        f = {name: values[kept][mask].astype(np.float64) for name, values in figures.items()}
        self.n_windows, self.n_positions = len(kept), int(mask.sum())
        window = np.repeat(np.arange(len(kept)), mask.sum(1))
        kld, nll, base, dp = f["kld"], f["nll"], f["nll_base"], f["dp"]
        moments = {
            "n": np.ones_like(kld), "kld": kld, "kld2": kld**2,
            "nll": nll, "nll2": nll**2, "base": base, "base2": base**2, "both": nll * base,
            "dp": dp, "dp2": dp**2, "dp4": dp**4, "same": f["same_top"],
        }  # fmt: skip
        self._names = list(moments)
        self._sums = np.stack(
            [np.bincount(window, m, minlength=len(kept)) for m in moments.values()], axis=1
        )
        self._quantiles = {n: _Quantiles(f[n], window, len(kept)) for n in ("kld", "dp")}
        starts = np.searchsorted(window, np.arange(len(kept)))
        self._extremes = {
            (name, end): function.reduceat(f[name], starts)
            for name in ("kld", "dp")
            for end, function in (("min", np.minimum), ("max", np.maximum))
        }

    def weigh(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """All figures under weights [replicates, windows]; each figure is [replicates]."""
        m = dict(zip(self._names, (weights @ self._sums).T, strict=True))
        n = m["n"]
        mean = {name: total / n for name, total in m.items()}
        out = {}
        for name in ("kld", "dp"):
            variance = mean[f"{name}2"] - mean[name] ** 2
            out[f"{name}_mean"], out[f"{name}_std"] = mean[name], np.sqrt(np.maximum(variance, 0))
            levels = self._quantiles[name].at(weights, [p / 100 for p in PERCENTILES] + [0.5])
            out |= {f"{name}_p{p:g}": levels[:, i] for i, p in enumerate(PERCENTILES)}
            out[f"{name}_median"] = levels[:, -1]
            for end, worst, choose in (("min", np.inf, np.min), ("max", -np.inf, np.max)):
                values = self._extremes[name, end]
                out[f"{name}_{end}"] = choose(np.where(weights > 0, values, worst), axis=1)
        out["score"] = composite_score(*(out[f"kld_{q}"] for q in ("median", "p90", "p95", "p99")))
        out["dp_rms"] = np.sqrt(mean["dp2"])
        out["same_top"] = mean["same"]
        out["ppl"], out["ppl_base"] = np.exp(mean["nll"]), np.exp(mean["base"])
        out["ln_ppl_ratio"] = mean["nll"] - mean["base"]
        out["ppl_ratio"] = np.exp(out["ln_ppl_ratio"])
        out["ppl_difference"] = out["ppl"] - out["ppl_base"]
        out["ppl_correlation"] = _correlation(mean)
        return out

    def values(self) -> dict[str, float]:
        """The figures themselves."""
        return {k: float(v[0]) for k, v in self.weigh(np.ones((1, self.n_windows))).items()}

    def per_window(self) -> dict[str, np.ndarray]:
        """The figures of each window by itself, each [windows]."""
        return self._in_blocks(np.eye(self.n_windows))

    @functools.cached_property
    def replicates(self) -> "Replicates":
        """Bootstrap and jackknife replicates of all figures."""
        drawn, left_out = (self._in_blocks(weights) for weights in resampled(self.n_windows))
        return Replicates(self.values(), drawn, left_out, self.n_windows)

    def half_width(self, figure: str, confidence: float) -> float:
        """Half the width of Student's interval of a figure."""
        return half_width(self.replicates.drawn[figure], self.n_windows, confidence)

    def uncertainties(self) -> dict[str, float]:
        """The ± of llama-perplexity (tools/perplexity/perplexity.cpp): as if positions were
        independent. Kept to compare with it; the intervals are what to believe."""
        m = dict(zip(self._names, self._sums.sum(0), strict=True))
        n = m["n"]

        def error(total, squares):
            return np.sqrt(max(squares / n - (total / n) ** 2, 0) / (n - 1))

        nll, base = error(m["nll"], m["nll2"]), error(m["base"], m["base2"])
        covariance = (m["both"] / n - m["nll"] / n * m["base"] / n) / (n - 1)
        v = self.values()
        mean_square = error(m["dp2"], m["dp4"])
        ratio = np.sqrt(max(nll**2 + base**2 - 2 * covariance, 0))
        difference = (v["ppl"] * nll) ** 2 + (v["ppl_base"] * base) ** 2
        difference -= 2 * v["ppl"] * v["ppl_base"] * covariance
        found = {
            "ppl": v["ppl"] * nll,
            "ppl_base": v["ppl_base"] * base,
            "ln_ppl_ratio": ratio,
            "ppl_ratio": v["ppl_ratio"] * ratio,
            "ppl_difference": np.sqrt(max(difference, 0)),
            "kld_mean": error(m["kld"], m["kld2"]),
            "dp_mean": error(m["dp"], m["dp2"]),
            "dp_rms": 0.5 / v["dp_rms"] * mean_square if v["dp_rms"] else 0.0,
            "same_top": np.sqrt(v["same_top"] * (1 - v["same_top"]) / (n - 1)),
        }
        return {name: float(value) for name, value in found.items()}

    def _in_blocks(self, weights):
        rows = max(1, _BLOCK // max(self.n_windows, 1024))
        parts = [self.weigh(weights[i : i + rows]) for i in range(0, len(weights), rows)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _correlation(mean):
    """Of the two negative log-likelihoods; 1 where either does not vary."""
    covariance = mean["both"] - mean["nll"] * mean["base"]
    variances = (mean["nll2"] - mean["nll"] ** 2) * (mean["base2"] - mean["base"] ** 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(variances > 0, covariance / np.sqrt(np.maximum(variances, 0)), 1.0)


def resampled(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights of `n` windows: those of the bootstrap [RESAMPLES, n] and of the jackknife [?, n]."""
    rng = np.random.default_rng(SEED)
    drawn = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)
    groups = np.arange(n) * min(n, _GROUPS) // n
    return drawn, (groups != np.unique(groups)[:, None]).astype(np.float64)


@dataclass(frozen=True)
class Replicates:
    """Figures, their bootstrap replicates and their jackknife replicates, by name."""

    values: dict[str, float]
    drawn: dict[str, np.ndarray]
    left_out: dict[str, np.ndarray]
    n_windows: int

    def interval(self, figure: str) -> tuple[float, float]:
        """The 95 % interval of a figure."""
        return bca(self.values[figure], self.drawn[figure], self.left_out[figure], self.n_windows)

    def difference(self, other: "Replicates", figure: str) -> tuple[float, float, float]:
        """This figure minus another recipe's on the same windows, and its 95 % interval."""
        value = self.values[figure] - other.values[figure]
        half = half_width(self.drawn[figure] - other.drawn[figure], self.n_windows, CONFIDENCE)
        return value, value - half, value + half


def half_width(drawn: np.ndarray, n: int, confidence: float) -> float:
    """Half the width of Student's interval, from bootstrap replicates over `n` windows."""
    return float(special.stdtrit(n - 1, (1 + confidence) / 2) * drawn.std(ddof=1))


def bca(
    value: float, drawn: np.ndarray, left_out: np.ndarray, n: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """A bias-corrected and accelerated bootstrap interval.

    Args:
        value: the figure.
        drawn, left_out: its bootstrap and jackknife replicates.
        n: number of windows.
    """
    if n < 2 or np.ptp(drawn) == 0:
        return value, value
    share = (np.sum(drawn < value) + np.sum(drawn == value) / 2) / len(drawn)
    bias = special.ndtri(np.clip(share, 1 / len(drawn), 1 - 1 / len(drawn)))
    deviation = left_out.mean() - left_out
    spread = np.sum(deviation**2) ** 1.5
    skew = np.sum(deviation**3) / (6 * spread) if spread else 0.0
    tail = np.sqrt(n / (n - 1)) * special.stdtrit(n - 1, (1 + confidence) / 2)
    levels = []
    for z in (bias - tail, bias + tail):
        levels.append(special.ndtr(bias + z / max(1 - skew * z, 0.1)))
    low, high = np.quantile(drawn, levels)
    return float(low), float(high)


def verdict(low: float, high: float, value: float, noise: float) -> str:
    """What a difference says of the first recipe, for a figure that should be low."""
    if abs(value) <= noise:
        return "tied"
    if high < 0:
        return "better"
    return "worse" if low > 0 else "cannot tell"


def summarize(sample: Sample) -> dict:
    """All figures as `{name: {value, low, high}}`, with llama-perplexity's ± where it has one."""
    replicates, plus_minus = sample.replicates, sample.uncertainties()
    out = {}
    for name, value in replicates.values.items():
        out[name] = {"value": value}
        if not name.endswith(EXTREMES):
            low, high = replicates.interval(name)
            out[name] |= {"low": low, "high": high}
        if name in plus_minus:
            out[name]["plus_minus"] = plus_minus[name]
    return out
