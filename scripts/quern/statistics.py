"""Summary figures of a comparison, per window and over all."""

import numpy as np
import pandas as pd

PERCENTILES = (99.9, 99, 95, 90, 10, 5, 1, 0.1)


def describe(values: np.ndarray) -> dict[str, float]:
    """Mean, standard deviation, extremes, median and percentiles of `values`.

    Percentiles interpolate linearly, as llama-perplexity's do. The standard deviation is the
    population's (n in the denominator).
    """
    quantiles = np.percentile(values, PERCENTILES)
    return {
        "mean": float(values.mean()),
        "std": float(values.std()),
        "min": float(values.min()),
        "max": float(values.max()),
        "median": float(np.median(values)),
    } | {f"p{p:g}": float(q) for p, q in zip(PERCENTILES, quantiles, strict=True)}


def composite_score(kld: dict[str, float]) -> float:
    """median^(1/3) · (KLD99 + 4 · KLD95 + 5 · KLD90)^(2/3), in nats; lower is better."""
    tail = kld["p99"] + 4 * kld["p95"] + 5 * kld["p90"]
    return float(max(kld["median"], 0.0) ** (1 / 3) * max(tail, 0.0) ** (2 / 3))


def summarize(figures: dict[str, np.ndarray]) -> dict:
    """The summary of any set of positions; `figures` as `divergence.FIGURES` names them."""
    kld = describe(figures["kld"])
    nll, nll_base = figures["nll"].mean(), figures["nll_base"].mean()
    return {
        "positions": int(figures["kld"].size),
        "kld": kld,
        "score": composite_score(kld),
        "dp": describe(figures["dp"]) | {"rms": float(np.sqrt(np.mean(figures["dp"] ** 2)))},
        "ppl": float(np.exp(nll)),
        "ppl_base": float(np.exp(nll_base)),
        "ppl_ratio": float(np.exp(nll - nll_base)),
        "same_top": float(figures["same_top"].mean()),
    }


def per_window(figures: dict[str, np.ndarray], numbers: np.ndarray) -> pd.DataFrame:
    """One row a window: its number and its summary, nested names joined by `_`."""
    rows = []
    for i, number in enumerate(numbers):
        summary = summarize({name: values[i] for name, values in figures.items()})
        flat = pd.json_normalize(summary, sep="_").iloc[0].to_dict()
        rows.append({"window": int(number)} | flat)
    return pd.DataFrame(rows)
