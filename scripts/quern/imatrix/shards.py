"""Shards of an importance matrix: collected from some windows each, merged by addition.

Sums are kept in float64, over even and odd windows apart; how far the two halves disagree is the
imatrix's noise.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .. import QuernError, hdf5
from ..gguf_files import ModelInfo, beyond_training
from ..llama import OUTPUT_WEIGHTS, Model, Product, computed_by
from ..tokens.work import Work, share
from .matrix import MODEL_SHA256, Imatrix

HALVES = ("even", "odd")  # windows


class SumsOfSquares:
    """Sums the squared inputs of products. An input that several products share is summed once.

    Even and odd windows may be shown at the same time.

    Args:
        first: the number of the window whose index is 0.

    Attributes:
        halves: what even and odd windows gave.
    """

    def __init__(self, first: int = 0):
        self.halves = Imatrix(), Imatrix()
        self._first, self._shared = first, [(None, None), (None, None)]

    def __call__(self, index: int, product: Product) -> None:
        window = self._first + index
        half = window % 2
        if product.kind == "experts":
            sums, counts = _expert_squares(product)
        else:
            key, squares = self._shared[half]
            if product.key != key:
                squares = _squares(product.inputs(), product.matrices)
                self._shared[half] = product.key, squares
            sums, counts = squares
        if not np.isfinite(sums).all():
            raise QuernError(f"the inputs of {product.name} are not finite in window {window}.")
        self.halves[half].add(product.name, sums, counts)


def _sums_of_squares(rows: np.ndarray) -> np.ndarray:
    """Of the columns of float32 [rows, columns], in float64."""
    return np.einsum("ij,ij->j", rows, rows, dtype=np.float64)


def _squares(inputs: np.ndarray, matrices: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums [1, matrices · columns] and count [1] of a plain product's inputs."""
    n2, n1, columns = inputs.shape
    sums = np.zeros((matrices, columns))
    for i in range(n2):
        sums[i % matrices] += _sums_of_squares(inputs[i])
    return sums.reshape(1, -1), np.array([n2 * n1 // matrices])


def _expert_squares(product: Product) -> tuple[np.ndarray, np.ndarray]:
    inputs, ids = product.inputs(), product.expert_ids()
    sums = np.zeros((product.matrices, inputs.shape[-1]))
    counts = np.bincount(ids.ravel(), minlength=product.matrices)
    for slot in range(ids.shape[1]):
        rows = inputs[:, slot % inputs.shape[1]]  # one input serves all slots, or one each
        for expert in np.unique(ids[:, slot]):
            sums[expert] += _sums_of_squares(rows[ids[:, slot] == expert])
    return sums, counts


def collect(
    model: Model,
    work: Work,
    shard: Path,
    *,
    first: int = 0,
    last: int | None = None,
    part: tuple[int, int] | None = None,
    output_weight: bool = False,
) -> int:
    """Collect from windows `first` to `last` - 1, or as far as the text goes, into a shard (HDF5).

    Args:
        part: instead of `first` and `last`: (k, n) for the k-th, from 1, of n equal parts of the
            text's windows.
        output_weight: include the output matrix, for which the graph must be computed to its end.

    Returns:
        The number of windows; 0 where the text ends before `first`, or has too few for a part.

    Raises:
        QuernError: an input is NaN or infinite (the sentence names the tensor and the window).
    """
    available = work.count()
    if part:
        wanted = share(available, part)
    else:
        wanted = range(first, available if last is None else min(available, last))
    sums = SumsOfSquares(wanted.start)
    if wanted:
        windows = work.windows(wanted)

        def is_wanted(name):
            return name.startswith("blk.") or (output_weight and name in OUTPUT_WEIGHTS)

        with tqdm(total=len(windows), unit="window", desc="imatrix", disable=None) as bar:
            for _ in model.activations(windows, is_wanted, sums):
                bar.update()
    attributes = {
        **work.origin,
        "first": wanted.start,
        "windows": len(wanted),
        "available": available,
        "computed_by": computed_by(model.way.gpus),
    }
    arrays = _arrays(sums.halves)
    with hdf5.writing(shard) as h5:
        h5.attrs.update(attributes)
        for name, array in arrays.items():
            h5[name] = array
    return len(wanted)


def _arrays(halves: tuple[Imatrix, Imatrix]) -> dict[str, np.ndarray]:
    """What a shard holds, by its names in the file."""
    return {
        f"{half}/{name}/{kind}": values[name]
        for half, part in zip(HALVES, halves, strict=True)
        for name in sorted(part.sums)
        for kind, values in (("sums", part.sums), ("counts", part.counts))
    }


def read_shard(path: Path) -> tuple[Imatrix, Imatrix, dict]:
    """The even and the odd half of a shard, and its attributes.

    Raises:
        QuernError: it is missing or damaged, or holds what no shard can hold.
    """
    halves = Imatrix(), Imatrix()
    with hdf5.reading(path, "shard of an imatrix") as h5:
        for half, part in zip(HALVES, halves, strict=True):
            for name, group in h5.get(half, {}).items():
                part.add(name, group["sums"][:], group["counts"][:])
        facts = hdf5.attributes(h5)
        for part in halves:
            part.require_sense()
        if min(facts["first"], facts["windows"]) < 0 or facts["n_ctx"] < 1:
            raise ValueError("its windows make no sense")
    return *halves, facts


@dataclass(frozen=True)
class Merged:
    """Shards, added up.

    Attributes:
        matrix: the imatrix.
        halves: what even and odd windows gave, for the noise.
        exhausted: the text had fewer windows than the shards were to cover.
        computed_by: what collected the shards, each once.
    """

    matrix: Imatrix
    halves: tuple[Imatrix, Imatrix]
    exhausted: bool
    computed_by: tuple[str, ...] = ()


def merge(shards: Iterable[Path], dataset: str, asked: int | None = None) -> Merged:
    """Add up shards in order of their windows.

    Args:
        dataset: what the imatrix records as its origin.
        asked: how many windows there were to be.

    Raises:
        QuernError: a shard is damaged, two overlap or leave a gap, or they are of different models,
            texts or contexts.
    """
    parts = sorted(((path, *read_shard(path)) for path in shards), key=lambda p: p[3]["first"])
    _, even, odd, facts = parts[0]
    end = facts["first"] + facts["windows"]
    for path, e, o, other in parts[1:]:
        for key in ("model_sha256", "text_sha256", "n_ctx"):
            if facts[key] != other[key]:
                raise QuernError(f"{path} is of another {key.split('_')[0]} than the other shards.")
        if other["windows"] and other["first"] != end:
            raise QuernError(f"{path} begins at window {other['first']}, not at {end}.")
        end += other["windows"]
        even, odd = even + e, odd + o
    total = even + odd
    total.datasets, total.chunks, total.chunk_size = [dataset], end, facts["n_ctx"]
    total.extra = {MODEL_SHA256: str(facts["model_sha256"])}
    total.extra["quern.text_sha256"] = str(facts["text_sha256"])
    builds = sorted({str(facts.get("computed_by", "")) for *_, facts in parts})
    return Merged(total, (even, odd), asked is not None and end < asked, tuple(builds))


def noise(halves: tuple[Imatrix, Imatrix]) -> dict[str, float | None]:
    """How far even and odd windows disagree, by weight: ‖a − b‖ / ‖a + b‖ of their importances.

    That is about the relative standard error of the importances of both together. None where a
    half is missing.
    """
    even, odd = halves
    found = {}
    for name in sorted(even.sums.keys() | odd.sums.keys()):
        if name not in even.sums or name not in odd.sums:
            found[name] = None
            continue
        # Experts that only one half reached tell nothing of the disagreement.
        both = (even.counts[name] > 0) & (odd.counts[name] > 0)
        a, b = (part.sums[name][both] / part.counts[name][both][:, None] for part in (even, odd))
        total = np.linalg.norm(a + b)
        found[name] = float(np.linalg.norm(a - b) / total) if total else None
    return found


def report(merged: Merged, info: ModelInfo) -> dict:
    """What is worth knowing of an imatrix besides its values."""
    found = noise(merged.halves)
    known = [value for value in found.values() if value is not None]
    matrix = merged.matrix
    return {
        "windows": matrix.chunks,
        "tokens": matrix.chunks * matrix.chunk_size,
        "exhausted": merged.exhausted,
        "beyond_training": beyond_training(info, matrix.chunk_size),
        "noise_median": float(np.median(known)) if known else None,
        "noise_max": max(known, default=None),
        "unreached": matrix.unreached(info),
        "noise": found,
        "provenance": matrix.extra | {"computed_by": list(merged.computed_by)},
    }
