"""One step of a growing imatrix: its figures, and its gains over the steps before.

Step k quantizes with the imatrix of the first windows of the pool, up to the k-th rung of the
ladder, and compares with the baseline. A step's facts are measurements only.

The measure is ln(score), averaged over the types that growth is judged by. Gains are paired
differences on the same evaluation windows, with 95 % intervals from the same resampled windows.
"""

from pathlib import Path

import numpy as np

from .. import QuernError, files, hdf5
from ..measure import comparison, statistics
from ..measure.window_store import WindowStore

SHOWN = ("score", "kld_mean", "kld_median", "kld_p90", "kld_p95", "kld_p99", "ppl_ratio")


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
        before, its_windows = read(path)
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
    with hdf5.writing(path) as h5:
        arrays = {"drawn": replicates.drawn["ln_score"], "windows": windows}
        h5.attrs["ln_score"] = replicates.values["ln_score"]
        for name, array in arrays.items():
            h5[name] = array


def read(path: Path) -> tuple[statistics.Replicates, np.ndarray]:
    """The resampled ln(score) of a step, and the windows it was measured on.

    Raises:
        QuernError: the file is missing or damaged.
    """
    with hdf5.reading(path, "step of a growth") as h5:
        arrays = {name: h5[name][:] for name in ("drawn", "windows")}
        windows, value = arrays["windows"], float(h5.attrs["ln_score"])
    replicates = statistics.Replicates(
        {"ln_score": value}, {"ln_score": arrays["drawn"]}, {}, len(windows)
    )
    return replicates, windows
