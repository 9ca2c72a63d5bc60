"""The importance matrix: mean squared inputs of every matrix product in the blocks.

Sums are kept in float64, over even and odd windows apart, in shards that are merged by addition.
Written out, they are llama.cpp's GGUF imatrix (tools/imatrix/imatrix.cpp): for each weight
`NAME.in_sum2`, float32 [experts or 1, columns], and `NAME.counts`, float32 [experts or 1, 1], in
tokens; or the older `.dat` of the same tool.
"""

import logging
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import h5py
import numpy as np
from tqdm import tqdm

from . import QuernError, files, gguf_files
from .gguf_files import ModelInfo
from .llama import Model, Product
from .windows import Tokens

log = logging.getLogger("quern.imatrix")

OUTPUT = "output.weight"


@dataclass
class Imatrix:
    """Sums and counts per weight.

    Attributes:
        sums: float64 [experts or 1, columns], sums of squared inputs.
        counts: int64 [experts or 1], how many input rows each sum has.
        datasets: what it was collected from, for provenance.
        chunks, chunk_size: windows, and tokens per window.
        extra: other provenance, as metadata keys and values.
    """

    sums: dict[str, np.ndarray] = field(default_factory=dict)
    counts: dict[str, np.ndarray] = field(default_factory=dict)
    datasets: list[str] = field(default_factory=list)
    chunks: int = 0
    chunk_size: int = 0
    extra: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, sums: np.ndarray, counts: np.ndarray) -> None:
        """Add sums and counts to those of a weight."""
        if name in self.sums:
            self.sums[name] += sums
            self.counts[name] += counts
        else:
            self.sums[name], self.counts[name] = sums.copy(), counts.copy()

    def __add__(self, other: "Imatrix") -> "Imatrix":
        """Both together; provenance is the first one's, but for the number of windows."""
        result = Imatrix(
            datasets=self.datasets,
            chunks=self.chunks + other.chunks,
            chunk_size=self.chunk_size,
            extra=self.extra,
        )
        for part in (self, other):
            for name in part.sums:
                result.add(name, part.sums[name], part.counts[name])
        return result

    def importances(self, prior: float = 0.0) -> dict[str, np.ndarray]:
        """Mean squared inputs, float32 [experts · columns], as llama-quantize forms them.

        Args:
            prior: tokens' worth of belief that all columns of a weight matter alike; it draws the
                importances towards their mean over the weight. 0 leaves them as they are.

        An expert that no token reached gets neutral weights, of 1 or, with a prior, of that mean.
        """
        return {
            name: self._importance(sums, self.counts[name], prior)
            for name, sums in self.sums.items()
        }

    @staticmethod
    def _importance(sums, counts, prior):
        seen = counts[:, None] > 0
        if prior:
            level = sums.sum() / (counts.sum() * sums.shape[1]) if counts.any() else 1.0
            values = (sums + prior * level) / (counts[:, None] + prior)
            return values.astype(np.float32).ravel()
        means = sums.astype(np.float32) / np.maximum(counts[:, None], 1).astype(np.float32)
        return np.where(seen, means, np.float32(1)).ravel()

    def unreached(self, info: ModelInfo) -> dict[str, int]:
        """How many experts (or 1 for a plain weight) no token reached, by weight of the blocks."""
        found = {name: int((counts == 0).sum()) for name, counts in self.counts.items()}
        for name, (_, matrices) in info.matrices.items():
            found.setdefault(name, matrices)
        return {name: n for name, n in sorted(found.items()) if n}

    def write(self, path: Path) -> None:
        """Write llama.cpp's GGUF imatrix, tensors in order of their names; or `.dat` by ending."""
        with files.replacing(path) as temporary:
            if path.suffix == ".dat":
                self._write_dat(temporary)
            else:
                self._write_gguf(temporary)

    def _write_gguf(self, path):
        writer = gguf.GGUFWriter(path, arch="")
        writer.add_string("general.type", "imatrix")
        writer.add_array("imatrix.datasets", self.datasets)
        writer.add_uint32("imatrix.chunk_count", self.chunks)
        writer.add_uint32("imatrix.chunk_size", self.chunk_size)
        for key, value in self.extra.items():
            writer.add_string(key, value)
        for name in sorted(self.sums):
            counts = self.counts[name].astype(np.float32)[:, None]
            writer.add_tensor(f"{name}.in_sum2", self.sums[name].astype(np.float32))
            writer.add_tensor(f"{name}.counts", counts)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    def _write_dat(self, path):
        # Counts are windows there, one for all experts; values are means times that count.
        with open(path, "wb") as file:
            file.write(struct.pack("<i", len(self.sums)))
            for name in sorted(self.sums):
                calls = max(1, int(self.counts[name].max()) // max(1, self.chunk_size))
                counts = np.maximum(self.counts[name], 1)[:, None]
                values = (self.sums[name] / counts * calls).astype("<f4").ravel()
                raw = name.encode()
                file.write(struct.pack("<i", len(raw)) + raw)
                file.write(struct.pack("<ii", calls, values.size) + values.tobytes())
            dataset = (self.datasets[0] if self.datasets else "").encode()
            file.write(struct.pack("<ii", self.chunks, len(dataset)) + dataset)

    @classmethod
    def read(cls, path: Path) -> "Imatrix":
        """Read llama.cpp's GGUF imatrix, or its older `.dat`.

        Raises:
            QuernError: it is missing, damaged, no imatrix, or holds values that are not finite.
        """
        path = Path(path)
        if not path.is_file():
            raise QuernError(f"{path} does not exist.")
        with open(path, "rb") as file:
            is_gguf = file.read(4) == b"GGUF"
        result = cls._read_gguf(path) if is_gguf else cls._read_dat(path)
        for name, sums in result.sums.items():
            if not np.isfinite(sums).all():
                raise QuernError(f"{path} holds values that are not finite for {name}.")
        if not result.sums:
            raise QuernError(f"{path} holds no importances.")
        return result

    @classmethod
    def _read_gguf(cls, path):
        reader = gguf_files.open_gguf(path)
        if gguf_files.field(reader, "general.type") != "imatrix":
            raise QuernError(f"{path} is a GGUF file, but not an imatrix.")
        tensors = {t.name: np.array(t.data) for t in reader.tensors}
        result = cls(
            datasets=list(gguf_files.field(reader, "imatrix.datasets", [])),
            chunks=int(gguf_files.field(reader, "imatrix.chunk_count", 0)),
            chunk_size=int(gguf_files.field(reader, "imatrix.chunk_size", 0)),
        )
        for key, sums in tensors.items():
            if not key.endswith(".in_sum2"):
                continue
            name = key.removesuffix(".in_sum2")
            counts = tensors.get(f"{name}.counts")
            if counts is None:
                raise QuernError(f"{path} has sums but no counts for {name}.")
            counts = counts.ravel().astype(np.int64)
            result.add(name, sums.astype(np.float64).reshape(len(counts), -1), counts)
        return result

    @classmethod
    def _read_dat(cls, path):
        result, data, at = cls(), path.read_bytes(), 0

        def take(n):
            nonlocal at
            at += n
            if n < 0 or at > len(data):
                raise QuernError(f"{path} is no imatrix of llama.cpp, or is cut short.")
            return data[at - n : at]

        def number():
            return struct.unpack("<i", take(4))[0]

        for _ in range(number()):
            name = take(number()).decode("utf-8", "replace")
            calls = number()
            values = np.frombuffer(take(4 * number()), "<f4").astype(np.float64)
            result.add(name, values[None], np.array([max(calls, 1)]))
        if at < len(data):  # files of before 2024 end here
            result.chunks = number()
            result.datasets = [take(number()).decode("utf-8", "replace")]
        return result

    def require_fit(self, info: ModelInfo, path: Path) -> None:
        """Refuse an imatrix of another model.

        Raises:
            QuernError: it names the first tensor that differs.
        """
        for name, sums in self.sums.items():
            if not name.startswith("blk."):
                continue
            shape = info.matrices.get(name)
            if shape is None:
                raise QuernError(f"{path} is of another model: it has {name}, the model has not.")
            columns, matrices = shape
            if sums.size != columns * matrices:
                raise QuernError(
                    f"{path} is of another model: {name} has {sums.size} values there and "
                    f"{matrices} × {columns} in the model."
                )


class Collector:
    """Sums the squared inputs of the products it is shown; inputs shared by several once.

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
        if product.experts:
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
    sums = np.zeros((product.experts, inputs.shape[-1]))
    counts = np.bincount(ids.ravel(), minlength=product.experts)
    for slot in range(ids.shape[1]):
        rows = inputs[:, slot % inputs.shape[1]]  # one input serves all slots, or one each
        for expert in np.unique(ids[:, slot]):
            sums[expert] += _sums_of_squares(rows[ids[:, slot] == expert])
    return sums, counts


# --- shards ----------------------------------------------------------------------------------


def collect(
    model: Model,
    info: ModelInfo,
    tokens: Tokens,
    shard: Path,
    *,
    n_ctx: int,
    first: int = 0,
    last: int | None = None,
    part: tuple[int, int] | None = None,
    output: bool = False,
) -> int:
    """Collect from windows `first` to `last` - 1, or as far as the text goes, into a shard (HDF5).

    Args:
        part: instead of `first` and `last`: (k, n) for the k-th, from 1, of n equal parts of the
            text's windows.
        output: include the output matrix, for which the graph must be computed to its end.

    Returns:
        The number of windows; 0 where the text ends before `first`, or has too few for a part.

    Raises:
        QuernError: the text is too short, the tokens are another model's, or an input is NaN or
            infinite (the sentence names the tensor and the window).
    """
    tokens.require_tokenizer(info.tokenizer_sha256)
    available = tokens.n_windows(n_ctx)
    if part:
        first, last = ((number * available) // part[1] for number in (part[0] - 1, part[0]))
    wanted = range(first, available if last is None else min(available, last))
    collector = Collector(first)
    if wanted:
        windows = tokens.windows(n_ctx, wanted)

        def is_wanted(name):
            return name.startswith("blk.") or (output and name == OUTPUT)

        with tqdm(total=len(windows), unit="window", desc="imatrix", disable=None) as bar:
            for _ in model.activations(windows, is_wanted, collector):
                bar.update()
    attributes = {
        "model_sha256": info.sha256,
        "text_sha256": tokens.text_sha256,
        "n_ctx": n_ctx,
        "first": first,
        "windows": len(wanted),
        "available": available,
    }
    with files.replacing(shard) as temporary, h5py.File(temporary, "w") as h5:
        h5.attrs.update(attributes)
        for half, part in zip(("even", "odd"), collector.halves, strict=True):
            for name in sorted(part.sums):
                h5[f"{half}/{name}/sums"] = part.sums[name]
                h5[f"{half}/{name}/counts"] = part.counts[name]
    return len(wanted)


def read_shard(path: Path) -> tuple[Imatrix, Imatrix, dict]:
    """The even and the odd half of a shard, and its attributes.

    Raises:
        QuernError: it is missing or damaged.
    """
    halves = Imatrix(), Imatrix()
    try:
        with h5py.File(path) as h5:
            for half, part in zip(("even", "odd"), halves, strict=True):
                for name, group in h5.get(half, {}).items():
                    part.add(name, group["sums"][:], group["counts"][:])
            facts = {k: v.item() if isinstance(v, np.generic) else v for k, v in h5.attrs.items()}
            return *halves, facts
    except (OSError, KeyError) as error:
        raise QuernError(f"{path} is no whole shard of an imatrix ({error}); delete it.") from None


@dataclass(frozen=True)
class Merged:
    """Shards, added up.

    Attributes:
        matrix: the imatrix.
        halves: what even and odd windows gave, for the noise.
        exhausted: the text had fewer windows than the shards were to cover.
    """

    matrix: Imatrix
    halves: tuple[Imatrix, Imatrix]
    exhausted: bool


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
    total.extra = {f"quern.{key}": str(facts[key]) for key in ("model_sha256", "text_sha256")}
    return Merged(total, (even, odd), asked is not None and end < asked)


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
        a, b = (
            part.sums[name][both] / np.maximum(part.counts[name][both], 1)[:, None]
            for part in (even, odd)
        )
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
        "noise_median": float(np.median(known)) if known else None,
        "noise_max": max(known, default=None),
        "unreached": matrix.unreached(info),
        "noise": found,
        "provenance": matrix.extra,
    }
