"""What the error of each tensor costs end to end.

One tensor at a time of the baseline in memory is exchanged for what comes back from its probe
type, a window of the calibration pool is decoded, and the tensor is restored. The result is a store
with a row for each tensor. Tensors that no graph reads, such as those of layers for drafting, have
no row; the store names them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from tqdm import tqdm

from .. import QuernError
from ..llama import Model, computed_by
from ..measure.baseline import scored_positions
from ..measure.window_store import WindowStore
from ..tokens.work import Work, share
from .editing import Editor
from .errors import probe_type
from .inputs import Inputs

SEED = 0  # decides which windows of the pool are decoded, and in which order


def windows_of(work: Work) -> np.ndarray:
    """All windows of a pool in the order in which mixes use them."""
    return np.random.default_rng(SEED).permutation(work.count())


def measure(
    model: Model,
    inputs: Inputs,
    work: Work,
    output: Path,
    *,
    turn: int = 0,
    part: tuple[int, int] = (1, 1),
) -> None:
    """Write the divergence of one window with each tensor in its probe type (HDF5).

    Tensors that are measured already are left alone.

    Args:
        model: loaded as `editable`.
        turn: the number of the window in `windows_of`.
        part: (k, n) for the k-th, from 1, of n equal parts of the tensors.

    Raises:
        QuernError: the pool has too few windows, or the model computes something else with the
            same weights.
    """
    order = windows_of(work)
    if turn >= len(order):
        raise QuernError(
            f"{work.tokens.path} has {len(order)} windows of {work.n_ctx}, too few to measure "
            f"{turn + 1}; give the corpus more text."
        )
    sources, weights = inputs.sources, model.weights()
    names = [t.name for t in inputs.free() if probe_type(t.columns)]
    unused = [name for name in names if name not in weights]
    number = int(order[turn])
    (window,) = work.windows([number])[:]
    first, last = scored_positions(work.n_ctx, "half")
    used = [name for name in names if name in weights]
    own = [used[i] for i in share(len(used), part)]
    attributes = _origin(inputs, work) | {
        "window": number,
        "names": "\n".join(own),
        "computed_by": computed_by(model.way.gpus),
        "hdf5": h5py.version.hdf5_version,
    }
    if unused:
        attributes["unused"] = "\n".join(unused)
    datasets = {"kld": ((last - first,), np.float64)}
    with (
        WindowStore.resume_or_create(output, len(own), datasets, attributes) as store,
        Editor(model, sources, inputs.importances) as editor,
        tqdm(total=len(own), unit="tensor", desc="damage", disable=None) as bar,
    ):
        base = editor.logits(window, first, last)
        if editor.figures(base, window, first, last)["kld"].any():
            raise QuernError(f"{model.path} does not compute the same twice; nothing is measured.")
        for row, name in enumerate(own):
            bar.update()
            if store.done[row]:
                continue
            editor.become({name: probe_type(sources[name].columns)})
            store.write(row, kld=editor.figures(base, window, first, last)["kld"])
            store.commit(row)
        store.finish(output)


class MeasuredDamages(NamedTuple):
    """Damages of all tensors on the same windows.

    Attributes:
        windows: numbers of the pool's.
        kld: the mean divergence, nats [windows], by tensor.
        unused: the tensors that no graph reads.
    """

    windows: list[int]
    kld: dict[str, np.ndarray]
    unused: frozenset[str]


def read(stores: Sequence[Path], inputs: Inputs, work: Work) -> MeasuredDamages:
    """The damages in the stores of all parts and windows.

    Raises:
        QuernError: a store is damaged, or not of this model, imatrix, text and size of windows, one
            lacks a tensor, or no tensor changed anything.
    """
    expected = _origin(inputs, work)
    found: dict[str, dict[int, float]] = {}
    windows: dict[int, None] = {}
    unused: set[str] = set()
    for path in stores:
        with WindowStore.open(path) as store:
            store.require(expected)
            if not store.done.all():
                raise QuernError(f"{path} is not complete; run it again.")
            window = int(store.attributes["window"])
            windows[window] = None
            unused.update(str(store.attributes.get("unused", "")).split())
            for row, name in enumerate(str(store.attributes["names"]).split()):
                store.check(row)
                found.setdefault(name, {})[window] = float(store.read("kld", row).mean())
    lacking = [name for name, values in found.items() if len(values) < len(windows)]
    if lacking:
        raise QuernError(f"the damage of {lacking[0]} is not measured on all windows.")
    kld = {name: np.array([values[w] for w in windows]) for name, values in found.items()}
    if not any(values.any() for values in kld.values()):
        raise QuernError(
            f"nothing changes in {inputs.model} whichever tensor is rounded, so no mix can be "
            "chosen; take the mixes out of quantize."
        )
    return MeasuredDamages(list(windows), kld, frozenset(unused))


def _origin(inputs: Inputs, work: Work) -> dict:
    """What damages must be of to belong together."""
    return {"kind": "damage", **work.origin, "imatrix_sha256": inputs.imatrix_sha256}
