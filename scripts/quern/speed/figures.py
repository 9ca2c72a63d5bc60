"""What was timed, in figures that other stages read: quartiles, and how busy the machine was.

Speeds of a busy machine are no property of a model. So where others kept more than `BUSY` of the
cores that were used from it, speeds are shown with that, decide nothing, and are not released.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .. import QuernError, forms

QUARTILES = (0.25, 0.75)
BUSY = 0.25  # cores that other programs kept busy, over threads that were timed
_SPREAD = {"median": forms.POSITIVE, "low": forms.POSITIVE, "high": forms.POSITIVE}
_LOAD = {"type": ["number", "null"], "minimum": 0}
_FORM = forms.record(
    machine=forms.record(
        cpu=forms.TEXT, cores=forms.COUNT, memory_bytes=forms.COUNT_OR_NONE, gpus={"type": "array"}
    ),
    settings=forms.record(threads=forms.COUNT, repeats=forms.COUNT),
    load=forms.record(median=_LOAD, low=_LOAD, high=_LOAD, samples=forms.some(_LOAD)),
    results=forms.some(
        forms.record(
            recipe=forms.TEXT,
            test={"type": "string", "pattern": r"^(pp|tg)[1-9][0-9]*$"},
            depth=forms.COUNT_OR_NONE,
            **_SPREAD,
            samples=forms.some(forms.POSITIVE),
        )
    ),
    provenance=forms.record(computed_by=forms.TEXT, models=forms.named(forms.SHA256)),
)


def spread(samples: list[float | None]) -> dict[str, float | None]:
    """`median`, `low` and `high` (quartiles) of samples; None where one is not known."""
    if None in samples:
        return dict.fromkeys(("median", "low", "high"))
    low, high = np.quantile(samples, QUARTILES).tolist()
    return {"median": float(np.median(samples)), "low": low, "high": high}


def read(path: Path, sums: Mapping[str, str] | None = None) -> dict:
    """What speed.py wrote.

    Args:
        sums: SHA-256 of the files that recipes must have been timed with, by name.

    Raises:
        QuernError: it is missing, damaged, impossible, or of other files.
    """
    found = forms.read(path, _FORM)
    sampled = {f"{e['recipe']}: {e['test']} at {e['depth']}": e for e in found["results"]}
    for name, entry in (sampled | {"load": found["load"]}).items():
        if any(entry[key] != value for key, value in spread(entry["samples"]).items()):
            raise forms.impossible(path, f"{name}: the figures are not those of its samples")
    timed = found["provenance"]["models"]
    for name in timed.keys() & (sums or {}).keys():
        if timed[name] != sums[name]:
            raise QuernError(f"{path} timed another file of {name}; delete it and run again.")
    return found


def was_busy(speed: dict) -> bool:
    """Whether other programs took so much of the machine that its speeds count for nothing."""
    return (speed["load"]["median"] or 0) > BUSY * speed["settings"]["threads"]


def load_text(speed: dict) -> str:
    """How busy others kept the machine, and what follows, in sentences."""
    load, threads = speed["load"], speed["settings"]["threads"]
    if load["median"] is None:
        return "How busy other programs kept the machine is not known."
    said = (
        f"While {threads} {'thread was' if threads == 1 else 'threads were'} timed, other programs "
        f"kept {load['median']:.2g} cores busy ({load['low']:.2g} to {load['high']:.2g})."
    )
    if was_busy(speed):
        said += f" That is more than {BUSY:.0%} of the threads, so these speeds decide nothing."
    return said
