"""The importance matrix: mean squared inputs of every matrix product in the blocks.

Sums are kept in float64 and written as llama.cpp's GGUF imatrix (tools/imatrix/imatrix.cpp):
for each weight `NAME.in_sum2`, float32 [experts or 1, columns], and `NAME.counts`, float32
[experts or 1, 1], in tokens.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np
from tqdm import tqdm

from . import QuernError, files, gguf_files
from .gguf_files import ModelInfo
from .llama import Model, Product
from .logits import require_tokenizer
from .window_store import window_range
from .windows import Tokens

log = logging.getLogger("quern.imatrix")


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
        if name in self.sums:
            self.sums[name] += sums
            self.counts[name] += counts
        else:
            self.sums[name], self.counts[name] = sums.copy(), counts.copy()

    def importances(self) -> dict[str, np.ndarray]:
        """Mean squared inputs, float32 [experts · columns], as llama-quantize forms them.

        An expert that no token reached gets neutral weights of 1.
        """
        return {
            name: np.where(
                counts[:, None] > 0,
                sums.astype(np.float32) / np.maximum(counts[:, None], 1).astype(np.float32),
                np.float32(1),
            ).ravel()
            for name, sums in self.sums.items()
            for counts in (self.counts[name],)
        }

    def unreached(self) -> dict[str, int]:
        """How many experts of each weight no token reached, where there are any."""
        zeros = {name: int((counts == 0).sum()) for name, counts in self.counts.items()}
        return {name: n for name, n in zeros.items() if n}

    def write(self, path: Path) -> None:
        """Write llama.cpp's GGUF imatrix, tensors in order of their names."""
        with files.replacing(path) as temporary:
            writer = gguf.GGUFWriter(temporary, arch="")
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

    @classmethod
    def read(cls, path: Path) -> "Imatrix":
        """Read llama.cpp's GGUF imatrix.

        Raises:
            QuernError: it is missing, damaged, no imatrix, or holds values that are not finite.
        """
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
            if not np.isfinite(sums).all():
                raise QuernError(f"{path} holds values that are not finite for {name}.")
            counts = counts.ravel().astype(np.int64)
            result.add(name, sums.astype(np.float64).reshape(len(counts), -1), counts)
        if not result.sums:
            raise QuernError(f"{path} holds no importances.")
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
    """Sums the squared inputs of the products it is shown; inputs shared by several once."""

    def __init__(self):
        self.imatrix = Imatrix()
        self._key = self._squares = None
        self._window = 0

    def window(self, number: int) -> None:
        """Say which window comes next, for error messages."""
        self._window = number

    def __call__(self, product: Product) -> None:
        if product.experts:
            sums, counts = _expert_squares(product)
        else:
            if product.key != self._key:
                self._key = product.key
                self._squares = _squares(product.inputs(), product.matrices)
            sums, counts = self._squares
        if not np.isfinite(sums).all():
            raise QuernError(
                f"the inputs of {product.name} are not finite in window {self._window}."
            )
        self.imatrix.add(product.name, sums, counts)


def _squares(inputs: np.ndarray, matrices: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums [1, matrices · columns] and count [1] of a plain product's inputs."""
    n2, n1, columns = inputs.shape
    rows = inputs.reshape(n2 // matrices, matrices, n1, columns).astype(np.float64)
    return np.einsum("amnc,amnc->mc", rows, rows).reshape(1, -1), np.array([n2 * n1 // matrices])


def _expert_squares(product: Product) -> tuple[np.ndarray, np.ndarray]:
    inputs, ids = product.inputs(), product.expert_ids()
    sums = np.zeros((product.experts, inputs.shape[-1]))
    counts = np.bincount(ids.ravel(), minlength=product.experts)
    for slot in range(ids.shape[1]):
        rows = inputs[:, slot % inputs.shape[1]]  # one input serves all slots, or one each
        for expert in np.unique(ids[:, slot]):
            mine = rows[ids[:, slot] == expert].astype(np.float64)
            sums[expert] += np.einsum("ij,ij->j", mine, mine)
    return sums, counts


def collect(
    model: Model,
    info: ModelInfo,
    tokens: Tokens,
    *,
    n_ctx: int,
    dataset: str,
    limit: int | None = None,
    first: int | None = None,
    last: int | None = None,
) -> Imatrix:
    """Collect an imatrix from windows of a calibration text.

    Args:
        dataset: what the imatrix records as its origin.

    Raises:
        QuernError: the text is too short, the tokens are another model's, or an input is NaN or
            infinite (the sentence names the tensor and the window).
    """
    require_tokenizer(tokens, info)
    wanted = window_range(first, last, tokens.n_windows(n_ctx, limit))
    collector = Collector()
    windows = tokens.windows(n_ctx, wanted)
    with tqdm(total=len(windows), unit="window", desc="imatrix", disable=None) as bar:
        collector.window(wanted[0])
        for i in model.activations(windows, lambda name: name.startswith("blk."), collector):
            collector.window(wanted[i] + 1)
            bar.update()
    result = collector.imatrix
    result.datasets, result.chunks, result.chunk_size = [dataset], len(windows), n_ctx
    result.extra = {
        "quern.model_sha256": info.sha256,
        "quern.text_sha256": tokens.text_sha256,
    }
    for name, count in result.unreached().items():
        log.warning("%s: no token reached %d of its experts", name, count)
    return result
