"""The importance matrix: mean squared inputs of every matrix product in the blocks."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .. import QuernError
from ..gguf_files import ModelInfo


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
        """The sum of both. Provenance is the first one's, except for the number of windows."""
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
