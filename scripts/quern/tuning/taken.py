"""What a stage takes up of a tuning: how to decode, where that was tried for the same work here."""

import logging
from dataclasses import replace
from pathlib import Path

from .. import forms
from ..llama import Way, computed_by
from ..speed.machine import machine
from .grid import TRIED

log = logging.getLogger("quern.tuning")

_WAY = forms.record(**dict.fromkeys(TRIED, forms.COUNT))
_FORM = forms.record(
    machine=forms.record(cpu=forms.TEXT, cores=forms.COUNT, gpus={"type": "array"}),
    settings=forms.record(n_ctx=forms.COUNT, threads=forms.COUNT, gpus=forms.COUNT_OR_NONE),
    provenance=forms.record(model_sha256=forms.SHA256, computed_by=forms.TEXT),
    usual=_WAY,
    taken_up=_WAY,
)


def taken_up(folder: Path | None, usual: Way, *, model_sha256: str, n_ctx: int) -> Way:
    """How to decode windows; no digit of a result depends on it.

    Args:
        folder: where results of tuning lie, `{n_ctx}.json`; None where there are none.
        usual: the way without them.
        model_sha256: the unquantized model, whose tuning holds for its quantizations as well.

    Returns:
        `usual` with other threads, contexts and `n_batch` where a tuning was made for this model,
        size of windows, number of threads, build and machine. The log says where it was not.

    Raises:
        QuernError: the tuning is damaged or impossible.
    """
    path = folder / f"{n_ctx}.json" if folder else None
    if path is None or not path.exists():
        return usual
    found = forms.read(path, _FORM)
    way, most = found["taken_up"], found["settings"]
    if way["threads"] > most["threads"] or way["n_batch"] > most["n_ctx"]:
        raise forms.impossible(path, f"taken_up: {way}")
    here, there = machine(usual.gpus), found["machine"]
    pairs = {
        "model": (model_sha256, found["provenance"]["model_sha256"]),
        "size of windows": (n_ctx, found["settings"]["n_ctx"]),
        "number of threads": (usual.threads, found["settings"]["threads"]),
        "number of GPUs": (usual.gpus, found["settings"]["gpus"]),
        "build of llama.cpp": (computed_by(usual.gpus), found["provenance"]["computed_by"]),
        # Its memory is left out: a new kernel keeps some of it for itself.
        "machine": tuple([m[key] for key in ("cpu", "cores", "gpus")] for m in (here, there)),
    }
    if differing := [name for name, (own, other) in pairs.items() if own != other]:
        log.warning("%s was made for another %s and is ignored", path, " and ".join(differing))
        return usual
    if way == found["usual"]:
        return usual
    log.info("as %s says: %s", path, way)
    return replace(usual, **{key: way[key] for key in ("threads", "contexts", "n_batch")})
