"""Growing an imatrix: when more calibration data no longer pays, and which size to take.

Step k quantizes with the imatrix of the first windows of the pool, up to the k-th rung of a ladder,
and compares with the baseline. A step's facts are measurements only; the decision is a function of
them and of the settings.

The measure is ln(score), averaged over the types that growth is judged by. Gains are paired
differences on the same evaluation windows, with 95 % intervals from the same resampled windows.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from . import QuernError, comparison, files, statistics
from .window_store import WindowStore

SHOWN = ("score", "kld_mean", "kld_median", "kld_p90", "kld_p95", "kld_p99", "ppl_ratio")


# --- the ladder ------------------------------------------------------------------------------


def ladder(first: int, factor: float, largest: int | None, n_ctx: int) -> Iterator[int]:
    """Windows of each rung; sizes are given in tokens. Without `largest` there is no end."""
    size, last = float(first), 0
    while True:
        capped = size if largest is None else min(size, largest)
        windows = max(1, round(capped / n_ctx))
        if windows > last:
            yield windows
            last = windows
        if capped == largest:
            return
        size *= factor


def shards(rungs: list[int], most: int) -> list[tuple[int, int]]:
    """The shards (first window, window after the last) up to the last of `rungs`.

    A shard never reaches over a rung, and holds at most `most` windows.
    """
    return [
        (start, min(start + most, end))
        for begin, end in pairwise([0, *rungs])
        for start in range(begin, end, most)
    ]


# --- one step --------------------------------------------------------------------------------


def measure(
    step: int, report: Path, positions: dict[str, Path], earlier: list[Path], output: Path
) -> dict:
    """The facts of a step, and its resampled ln(score) (HDF5) for the steps after it.

    Args:
        report: the JSON of the step's imatrix.
        positions: the comparison (HDF5) by type.
        earlier: the HDF5 of all steps before, in order.

    Raises:
        QuernError: a comparison covers other windows than those of the steps before.
    """
    samples = {kind: _replicates(path) for kind, path in positions.items()}
    own = _mean_log_score([replicates for replicates, _ in samples.values()])
    windows = next(iter(samples.values()))[1]
    gains = []
    for number, path in enumerate(earlier):
        before, its_windows = _read(path)
        if not np.array_equal(windows, its_windows):
            raise QuernError(f"{path} was measured on other windows; delete it and run again.")
        value, low, high = before.difference(own, "ln_score")
        gains.append({"over": number, "value": value, "low": low, "high": high})
    _write(output, own, windows)
    facts = files.read_json(report)
    return {
        "step": step,
        "windows": facts["windows"],
        "tokens": facts["tokens"],
        "exhausted": facts["exhausted"],
        "noise_median": facts["noise_median"],
        "noise_max": facts["noise_max"],
        "unreached": sum(facts["unreached"].values()),
        "evaluation_windows": len(windows),
        "ln_score": own.values["ln_score"],
        "gains": gains,
        "figures": {kind: _figures(r) for kind, (r, _) in samples.items()},
    }


def _replicates(path: Path) -> tuple[statistics.Replicates, np.ndarray]:
    with WindowStore.open(path) as store:
        sample = statistics.Sample(comparison.read_figures(store))
        return sample.replicates, np.flatnonzero(store.done)


def _mean_log_score(parts: list[statistics.Replicates]) -> statistics.Replicates:
    def mean(arrays):
        return np.mean([np.log(np.maximum(a, 1e-300)) for a in arrays], axis=0)

    return statistics.Replicates(
        {"ln_score": float(mean([p.values["score"] for p in parts]))},
        {"ln_score": mean([p.drawn["score"] for p in parts])},
        {},
        parts[0].n_windows,
    )


def _figures(replicates: statistics.Replicates) -> dict:
    found = {}
    for name in SHOWN:
        low, high = replicates.interval(name)
        found[name] = {"value": replicates.values[name], "low": low, "high": high}
    return found


def _write(path: Path, replicates: statistics.Replicates, windows: np.ndarray) -> None:
    with files.replacing(path) as temporary, h5py.File(temporary, "w") as h5:
        h5.attrs["ln_score"] = replicates.values["ln_score"]
        h5["drawn"] = replicates.drawn["ln_score"]
        h5["windows"] = windows


def _read(path: Path) -> tuple[statistics.Replicates, np.ndarray]:
    try:
        with h5py.File(path) as h5:
            windows = h5["windows"][:]
            replicates = statistics.Replicates(
                {"ln_score": float(h5.attrs["ln_score"])},
                {"ln_score": h5["drawn"][:]},
                {},
                len(windows),
            )
            return replicates, windows
    except (OSError, KeyError) as error:
        raise QuernError(f"{path} is no whole step of a growth ({error}); delete it.") from None


# --- the decision ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Decision:
    """Whether to stop after the steps so far, why, and which one to take if so.

    Attributes:
        stop, reason: as said.
        chosen: the smallest step that is not credibly worse than the best one.
        best: the step of the lowest score.
    """

    stop: bool
    reason: str
    chosen: int
    best: int


def decide(steps: list[dict], *, min_gain: float, patience: int, last: bool = False) -> Decision:
    """Decide after some steps.

    Growth stops when the gain was credibly below `min_gain` for `patience` steps in a row (the
    upper end of its interval lies below), or not credibly above zero for as long (the lower end
    does not lie above), or when the pool is used up, or at the last step of the ladder.

    Args:
        steps: facts of steps 0, 1, …, as `measure` makes them.
        min_gain: share by which a step must lower the score to be worth it.
        patience: how many steps in a row must disappoint.
        last: the ladder ends here.
    """
    threshold = -np.log1p(-min_gain)
    recent = [step["gains"][-1] for step in steps[1:]][-patience:]
    reason = ""
    if len(recent) == patience:
        if all(gain["high"] < threshold for gain in recent):
            reason = f"the gain is credibly below {min_gain:.2%}"
        elif all(gain["low"] <= 0 for gain in recent):
            reason = "the gain is not credibly above zero"
    if not reason and steps[-1]["exhausted"]:
        reason = "the pool is used up"
    if not reason and last:
        reason = "the largest size is reached"
    best = min(range(len(steps)), key=lambda k: steps[k]["ln_score"])
    chosen = next(k for k in range(best + 1) if k == best or not _worse(steps, k, best))
    return Decision(bool(reason), reason, chosen, best)


def _worse(steps: list[dict], k: int, best: int) -> bool:
    """Whether step `k` is credibly worse than the later step `best`."""
    return steps[best]["gains"][k]["low"] > 0


def choose(facts: list[Path], *, min_gain: float, patience: int, eager: bool = False) -> dict:
    """The decision over steps, with the numbers behind it.

    Args:
        facts: the JSON of each step, in order.
        eager: all steps were made whatever the earlier ones said; the reason says so.

    Returns:
        `decision`, `settings`, `steps`.
    """
    steps = [files.read_json(path) for path in facts]
    found = decide(steps, min_gain=min_gain, patience=patience, last=True)
    if eager:
        found = Decision(True, "all steps were made", found.chosen, found.best)
    return {
        "decision": asdict(found),
        "settings": {"min_gain": min_gain, "patience": patience, "eager": eager},
        "steps": steps,
    }


def table(result: dict) -> str:
    """The steps as Markdown."""
    rows = []
    for step in result["steps"]:
        gain = step["gains"][-1] if step["gains"] else None
        row = {"step": step["step"], "windows": step["windows"], "tokens": f"{step['tokens']:,}"}
        for kind, figures in step["figures"].items():
            f = figures["score"]
            row[f"{kind} score"] = f"{f['value']:.5f} [{f['low']:.5f}, {f['high']:.5f}]"
            row[f"{kind} KLD"] = f"{figures['kld_mean']['value']:.6f}"
        row["gain"] = "" if gain is None else _percent(gain)
        noise = step["noise_median"]
        row["imatrix noise"] = "" if noise is None else f"{noise:.2%}"
        row[""] = "chosen" if step["step"] == result["decision"]["chosen"] else ""
        rows.append(row)
    body = pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)
    chosen = result["steps"][result["decision"]["chosen"]]
    return (
        f"{body}\n\nStopped: {result['decision']['reason']}. Chosen: step "
        f"{result['decision']['chosen']}, {chosen['tokens']:,} tokens, the smallest that is not "
        f"credibly worse than the best (step {result['decision']['best']}).\n"
        f"Scores over {chosen['evaluation_windows']} evaluation windows; gain: by how much the "
        "step lowers the score of the one before. All intervals are 95 %.\n"
    )


def _percent(gain: dict) -> str:
    value, low, high = (-np.expm1(-gain[key]) for key in ("value", "low", "high"))
    return f"{value:.2%} [{low:.2%}, {high:.2%}]"
