"""A quantized model whose weights are rounded again, from the unquantized ones, type by type.

Everything else in the file stays as it is, to the byte. One metadata key is added.
"""

import logging
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from .. import QuernError, blas, files, gguf_files, rounding, unquantized
from ..ggml_types import PUBLISHED, UNQUANTIZED
from ..gguf_files import GgufFile, GgufTensor
from ..gguf_header import STRING
from ..imatrix import formats
from ..moments.stored import Moments
from ..rounding import compensated
from ..rounding.compensated import Chosen
from ..rounding.moment import MomentHalves
from ..unquantized import UnquantizedTensor
from .recipes import KEY

log = logging.getLogger("quern.rerounding")

_AT_ONCE = 1 << 24  # weights that are in memory at once


class Rerounded(NamedTuple):
    """What was rounded.

    Attributes:
        kinds: how many tensors of each type.
        compensated: how far each tensor's moment was believed.
        note: what the user should know of it.
    """

    kinds: Counter
    compensated: dict[str, Chosen]
    note: str = ""


class _ToRound(NamedTuple):
    """A tensor that is rounded again.

    Attributes:
        source: its weights.
        quantized: the file in which llama.cpp quantized it.
        found: what it is there.
        importances: float32 [matrices, columns], or None.
    """

    source: UnquantizedTensor
    quantized: Path
    found: GgufTensor
    importances: np.ndarray | None

    @property
    def kind(self) -> str:
        """Its type."""
        return self.found.tensor_type.name

    def weights(self, matrix: int) -> np.ndarray | None:
        """The importances of a matrix, float32 [columns]."""
        return None if self.importances is None else self.importances[matrix]

    def rows(self, matrix: int, first: int, last: int) -> rounding.Rows:
        """Rows `first` to `last` - 1, which are a matrix'."""

        def made():
            return self._made(first, last)

        values = self.source.float32(first, last)
        return rounding.TYPES[self.kind].rows(values, self.weights(matrix), made)

    def sample(self, matrix: int, numbers: Sequence[int]) -> rounding.Rows:
        """Some rows of a matrix."""

        def made():
            return np.concatenate([self._made(row, row + 1) for row in numbers])

        values = np.concatenate([self.source.float32(row, row + 1) for row in numbers])
        return rounding.TYPES[self.kind].rows(values, self.weights(matrix), made)

    def _made(self, first: int, last: int) -> np.ndarray:
        """What llama.cpp made of rows, uint8 [n, bytes of a row]."""
        row = int(self.found.n_bytes) // self.source.rows
        offset = _offset(self.found) + first * row
        raw = np.fromfile(self.quantized, np.uint8, (last - first) * row, offset=offset)
        return raw.reshape(last - first, row)

    def parts(self, matrix: int) -> Iterator[tuple[int, int]]:
        """Rows of a matrix, first and last + 1, as many as are in memory at once."""
        height = self.source.rows // self.source.matrices
        step = max(1, _AT_ONCE // self.source.columns)
        for first in range(matrix * height, (matrix + 1) * height, step):
            yield first, min(first + step, (matrix + 1) * height)


class _Compensator:
    """Rounds tensors by their inputs' moments, where they have some."""

    def __init__(self, moments: Moments, threads: int):
        self._moments, self._threads = moments, threads
        self._last: tuple = None, None  # a moment, and what is known by it
        self.chosen: dict[str, Chosen] = {}

    def rounded(self, tensor: _ToRound, matrix: int) -> Iterator[tuple[np.ndarray, int]] | None:
        """A matrix' bytes in parts, as `_rounded` gives them; None where that is to do it."""
        source = tensor.source
        moment = self._moments.of(source.tensor.name, matrix)
        if moment is None or 0 in moment.tokens:
            return None
        if len(moment.even) != source.columns:
            raise QuernError("its moment is of another model.")
        halves, height = self._halves_of(moment), source.rows // source.matrices
        sample = np.linspace(0, height - 1, compensated.SAMPLE).round().astype(int)
        rows = tensor.sample(matrix, (np.unique(sample) + matrix * height).tolist())
        chosen = compensated.choose(tensor.kind, rows, halves, threads=self._threads)
        name = source.tensor.name + (f" {matrix}" if source.matrices > 1 else "")
        self.chosen[name] = chosen
        log.info("%s: ρ %s, error of its output %.3f of importance's", name, *chosen)
        return None if chosen.strength is None else self._parts(tensor, matrix, halves, chosen)

    def note(self) -> str:
        """What is known of all tensors together."""
        held_out = np.mean([c.ratio for c in self.chosen.values()] or [1.0])
        stayed = sum(c.strength is None for c in self.chosen.values())
        moments = self._moments
        tokens = " to ".join(f"{w * moments.n_ctx}" for w in sorted(set(moments.windows)))
        gain = np.mean([e for e in moments.excess if np.isfinite(e)] or [0.0]) / 2
        return (
            f"compensated: each tensor's output has {held_out:.2f} of the squared error that "
            f"importance leaves it, in the mean of {len(self.chosen)} on windows not used for "
            f"fitting ({stayed} stay as importance); the model's KLD falls by less, as measured. "
            f"Moments of {tokens} tokens; twice as many promise {100 * gain:.1f} % less of that "
            "error."
        )

    def _halves_of(self, moment):
        last, halves = self._last
        if last is not moment:
            halves = MomentHalves(moment.mean("even"), moment.mean("odd"), moment.mean())
            self._last = moment, halves
        return halves

    def _parts(self, tensor, matrix, halves, chosen):
        prepared = rounding.TYPES[tensor.kind].prepared
        believed = halves.believed("both", chosen.strength, prepared)
        for part in tensor.parts(matrix):
            rows = tensor.rows(matrix, *part)
            raw = compensated.compensate(tensor.kind, rows, believed, threads=self._threads)
            yield raw, rows.values.size


def _offset(tensor: GgufTensor) -> int:
    return int(tensor.data_offset)


def reround(
    baseline: Path,
    quantized: Path,
    name: str,
    output: Path,
    *,
    imatrix: Path | None = None,
    imatrix_n_ctx: int = formats.CHUNK_SIZE,
    moments: Moments | None = None,
    threads: int = 1,
) -> Rerounded:
    """Write `quantized` with all weights of covered types rounded by `name`.

    With an imatrix, weights of the blocks that it lacks count evenly, and other weights that it
    lacks keep their bytes, as do types that are not covered; the log says which.

    Args:
        baseline: the unquantized GGUF (first shard) that `quantized` was made from.
        name: one of `rounding.ROUNDINGS`.
        imatrix_n_ctx: as for `quantization.quantize`.
        moments: for `compensated`; tensors that they lack are rounded by `importance`.

    Raises:
        QuernError: the files do not belong together, a weight is not finite (the sentence names
            the tensor), or `quantized` was rounded before.
    """
    reader = gguf_files.open_gguf(quantized)
    if gguf_files.field(reader, KEY) is not None:
        raise QuernError(f"{quantized} was rounded by {gguf_files.field(reader, KEY)} already.")
    if gguf_files.field(reader, "split.count", 0) > 1:
        raise QuernError(f"{quantized} is one of several shards; merge them first.")
    if name not in rounding.ROUNDINGS:
        raise QuernError(f"there is no rounding {name}; {', '.join(rounding.ROUNDINGS)} are.")
    sources, originals = unquantized.tensors_of(baseline), gguf_files.tensors_of(baseline)
    importances = None
    if imatrix is not None:
        shapes = gguf_files.matrices_of(originals.values())
        importances = formats.read(imatrix, imatrix_n_ctx).fitted(shapes, imatrix).importances()
    plan = _plan(reader, originals, importances, quantized, name, moments)
    compensator = _Compensator(moments, threads) if moments else None

    def order(tensor):  # those that share a moment one after the other
        return moments.owner(tensor.name) if moments else "", _offset(tensor)

    def parts_of(tensor):
        if tensor.name not in plan:
            yield from _copied(quantized, tensor)
            return
        own = _ToRound(sources[tensor.name], quantized, tensor, plan[tensor.name])
        for matrix in range(own.source.matrices):
            parts = compensator.rounded(own, matrix) if compensator else None
            yield from parts or _rounded(own, matrix, name, threads)

    # One limit for all: BLAS's threads are busy for a while whenever a limit is lifted.
    with blas.one_thread(), files.replacing(output) as temporary, open(temporary, "wb") as out:
        header = _header(reader, quantized, name)
        out.write(header)
        shift = len(header) - reader.header.data_offset
        total = sum(int(t.n_elements) for t in reader.tensors)
        with tqdm(total=total, unit="weight", unit_scale=True, desc=name, disable=None) as bar:
            for tensor in sorted(reader.tensors, key=order):
                out.seek(_offset(tensor) + shift)
                try:
                    for raw, count in parts_of(tensor):
                        out.write(raw)
                        bar.update(count)
                except QuernError as error:
                    path = sources[tensor.name].path
                    raise QuernError(f"{tensor.name} of {path}: {error}") from None
        out.truncate(quantized.stat().st_size + shift)
    kinds = Counter(t.tensor_type.name for t in reader.tensors if t.name in plan)
    if compensator is None:
        return Rerounded(kinds, {})
    return Rerounded(kinds, compensator.chosen, compensator.note())


def _plan(
    reader: GgufFile,
    originals: dict[str, GgufTensor],
    importances: dict[str, np.ndarray] | None,
    quantized: Path,
    rounding_name: str,
    moments: Moments | None,
) -> dict[str, np.ndarray | None]:
    """Which tensors are rounded, and their importances, float32 [matrices, columns] or None."""
    plan, kept, widened, unweighted = {}, Counter(), Counter(), []
    for tensor in reader.tensors:
        kind, name = tensor.tensor_type.name, tensor.name
        if kind in UNQUANTIZED:
            continue
        original = originals.get(name)
        if original is None or original.shape != tensor.shape:
            raise QuernError(f"{quantized} is of another model: {name} differs from the baseline.")
        published = original.tensor_type.name
        if published in PUBLISHED:
            if kind != published:
                widened[published] += 1
            continue
        if not rounding.covers(rounding_name, kind):
            kept[kind] += 1
            continue
        columns = int(tensor.shape[0])
        weights = None
        if importances is not None:
            weights = importances.get(name)
            if weights is None and moments and moments.owner(name):
                plan[name] = None  # its moment says more
                continue
            if weights is None and not name.startswith("blk."):
                unweighted.append(name)
                continue
            matrices = int(tensor.shape[2]) if len(tensor.shape) > 2 else 1
            if weights is None:
                weights = np.ones(matrices * columns, np.float32)
            if weights.size != matrices * columns:
                raise QuernError(
                    f"the imatrix is of another model: it has {weights.size} importances for "
                    f"{name}, which has {matrices} × {columns} columns."
                )
            weights = weights.reshape(matrices, columns)
        plan[name] = weights
    for kind, count in sorted(kept.items()):
        log.warning(
            "%s is not covered by %s: %d tensors stay as llama.cpp made them",
            kind, rounding_name, count,
        )  # fmt: skip
    for kind, count in sorted(widened.items()):
        log.warning(
            "%d tensors were published as %s: they stay as llama.cpp made them", count, kind
        )
    for name in unweighted:
        log.warning("the imatrix has nothing on %s: it stays as llama.cpp made it", name)
    return plan


def _copied(path: Path, tensor: GgufTensor) -> Iterator[tuple[np.ndarray, int]]:
    """A tensor's bytes as they are, in parts, and how many weights each part holds."""
    left, at = int(tensor.n_bytes), _offset(tensor)
    per_byte = int(tensor.n_elements) / left
    while left:
        part = np.fromfile(path, np.uint8, min(left, _AT_ONCE), offset=at)
        yield part, round(part.size * per_byte)
        at, left = at + part.size, left - part.size


def _rounded(
    tensor: _ToRound, matrix: int, name: str, threads: int
) -> Iterator[tuple[np.ndarray, int]]:
    """The bytes of one of its matrices, rounded anew, in parts; of how many weights each is."""
    for part in tensor.parts(matrix):
        rows = tensor.rows(matrix, *part)
        yield rounding.round_rows(tensor.kind, name, rows, threads=threads), rows.values.size


def _header(reader: GgufFile, path: Path, name: str) -> bytes:
    """What lies before the tensors' data, with the name of the rounding added."""
    before = reader.header
    if before.order != "<":
        raise QuernError(f"{path} is big-endian; its weights cannot be rounded.")
    with open(path, "rb") as file:
        old = file.read(before.end)
    pairs = struct.unpack_from("<Q", old, 16)[0]
    key, value = KEY.encode(), name.encode()
    added = struct.pack("<Q", len(key)) + key
    added += struct.pack("<IQ", STRING, len(value)) + value
    header = old[:16] + struct.pack("<Q", pairs + 1) + old[24 : before.begin]
    header += added + old[before.begin :]
    return header + bytes(-len(header) % before.alignment)
