"""What the trials show: which way is credibly faster than the usual one, and what stages take up.

Ways are compared with the usual one round by round, so that a drift of the machine cancels. The
interval of a speed-up is Student's over the logarithms of the rounds' ratios, and so wide that all
of them hold together with 95 % (Bonferroni). A way whose interval does not lie above 1 is not
recommended, however fast its best trial was.
"""

import math

import numpy as np
from scipy import special

from ..speed.figures import QUARTILES
from .grid import described, label, way_of

CONFIDENCE = 0.95


def choose(found: dict) -> dict:
    """The result of trials.

    Args:
        found: as `rounds.trials` gives it.

    Returns:
        All but the rounds; of each way also `median`, `low` and `high` (quartiles) in tokens per
        second and its `speedup` over the usual way with interval; `usual`, `fastest` and
        `taken_up`, each a way; `said`, which puts it in words. `taken_up` has the graphs and the
        bits of the usual way.
    """
    n_ctx = found["settings"]["n_ctx"]
    tokens = found["settings"]["windows"] * n_ctx
    ways = [way_of(facts) for facts in found["ways"]]
    seconds = {w: np.array([r[label(w)] for r in found["rounds"]]) for w in ways}
    usual, rows = ways[0], []
    for way, facts in zip(ways, found["ways"], strict=True):
        low, high = np.quantile(tokens / seconds[way], QUARTILES).tolist()
        speeds = {"median": float(np.median(tokens / seconds[way])), "low": low, "high": high}
        gain = speedup(seconds[usual], seconds[way], len(ways) - 1)
        rows.append(
            facts | speeds | {"speedup": dict(zip(("value", "low", "high"), gain, strict=True))}
        )
    same = [
        row
        for way, row in zip(ways, rows, strict=True)
        if row["same_bits"] and way.graphs(n_ctx) == usual.graphs(n_ctx)
    ]
    fastest, taken = fastest_of(rows), fastest_of(same)
    kept = {key: value for key, value in found.items() if key not in ("ways", "rounds")}
    return kept | {
        "said": _said(rows[0], fastest, taken),
        "usual": described(way_of(rows[0])),
        "fastest": described(way_of(fastest)),
        "taken_up": described(way_of(taken)),
        "ways": rows,
    }


def speedup(usual: np.ndarray, own: np.ndarray, comparisons: int) -> tuple[float, float, float]:
    """How many times as fast a way is as the usual one, and the interval.

    Args:
        usual, own: seconds of each round.
        comparisons: how many intervals shall hold together.
    """
    ratios = np.log(usual / own)
    mean, n = ratios.mean(), len(ratios)
    if not np.ptp(ratios):
        return (math.exp(mean),) * 3
    level = 1 - (1 - CONFIDENCE) / (2 * max(1, comparisons))
    half = special.stdtrit(n - 1, level) * ratios.std(ddof=1) / math.sqrt(n)
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def fastest_of(rows: list[dict]) -> dict:
    """The way that is surest to be faster than the usual one, the first; that one if none is."""
    best = max(rows, key=lambda row: row["speedup"]["low"])
    return best if best["speedup"]["low"] > 1 else rows[0]


def _said(usual: dict, fastest: dict, taken: dict) -> str:
    """The result in words."""
    if fastest is usual:
        return f"No way is credibly faster than the usual one ({label(way_of(usual))})."
    said = f"{_gain(fastest)}."
    if taken is not fastest:
        said += " Its graphs are others, whose last digits may differ, so stages do not take it up"
        said += f"; they take {_gain(taken)}." if taken is not usual else "."
    return said


def _gain(row: dict) -> str:
    gain = row["speedup"]
    return (
        f"{label(way_of(row))}: {gain['value']:.3f} times as fast as the usual way "
        f"[{gain['low']:.3f}, {gain['high']:.3f}]"
    )
