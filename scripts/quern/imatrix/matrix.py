"""The importance matrix: mean squared inputs of every matrix product in the blocks."""

from collections.abc import Container
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from .. import QuernError
from ..gguf_files import ModelInfo
from ..quantizable import is_quantizable

MODEL_SHA256 = "quern.model_sha256"  # of the model that a matrix of Quern's own was collected from


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

    def require_sense(self) -> None:
        """Refuse sums and counts that nothing can add up to.

        Raises:
            ValueError: it names the weight.
        """
        for name, sums in self.sums.items():
            counts = self.counts[name]
            if sums.ndim != 2 or counts.shape != sums.shape[:1]:
                raise ValueError(f"{name} has sums and counts of shapes that do not fit")
            if not np.isfinite(sums).all() or not np.isfinite(counts).all():
                raise ValueError(f"values that are not finite for {name}")
            if (sums < 0).any() or (counts < 0).any():
                raise ValueError(f"{name} has sums or counts below zero")
            if (counts > 2**53).any():
                raise ValueError(f"{name} has counts that no calibration reaches")
            if sums[counts == 0].any():
                raise ValueError(f"{name} has sums of nothing")

    def importances(self) -> dict[str, np.ndarray]:
        """Mean squared inputs, float32 [experts · columns], as llama-quantize forms them.

        An expert that no token reached gets neutral weights of 1.
        """
        return {name: _importance(sums, self.counts[name]) for name, sums in self.sums.items()}

    def fitted(self, shapes: dict[str, tuple[int, int]], path: Path) -> "Imatrix":
        """The matrix as a model needs it: a row and a count for each expert.

        An expert whose sums are all zero counts as not reached, whatever its count says: the older
        `.dat` has one count for all experts, and importances of zero would make all its weights 0.
        `attn_kv_b` of a model that has `attn_k_b` and `attn_v_b` is left out: some programs
        multiply by both at once. The two are not reached then. A weight of one row, which is no
        matrix in a file, is left out too.

        Args:
            shapes: columns and number of matrices of each weight in the model's blocks.
            path: where the matrix is from, for errors.

        Raises:
            QuernError: it is of another model: a weight is unknown or of another shape, or most of
                the weights that llama.cpp quantizes are missing.
        """
        result = replace(self, sums={}, counts={})
        for name, sums in self.sums.items():
            counts = self.counts[name]
            if name.startswith("blk."):
                if _is_of_split(name, shapes) or _is_row(name, shapes):
                    continue
                if name not in shapes:
                    raise QuernError(
                        f"{path} is of another model: it has {name}, the model has not."
                    )
                columns, matrices = shapes[name]
                if sums.size != columns * matrices or len(counts) not in (1, matrices):
                    raise QuernError(
                        f"{path} is of another model: {name} has {sums.size} values there and "
                        f"{matrices} × {columns} in the model."
                    )
                sums = sums.reshape(matrices, columns)
                counts = np.broadcast_to(counts, matrices)
            result.sums[name] = sums
            result.counts[name] = np.where(sums.any(axis=1), counts, 0)
        wanted = set(filter(is_quantizable, shapes))
        known = wanted & self.sums.keys()
        if 2 * len(known) < len(wanted):
            raise QuernError(
                f"{path} is of another model, or of a part of it: it has {len(known)} of the "
                f"model's {len(wanted)} weights."
            )
        return result

    def unreached(self, info: ModelInfo) -> dict[str, int]:
        """How many experts (or 1 for a plain weight) no token reached, by weight of the blocks that
        llama.cpp quantizes.

        What Quern's own matrix of a model lacks is multiplied in none of its graphs, so there is
        nothing to reach.
        """
        is_own = self.extra.get(MODEL_SHA256) == info.sha256
        found = {}
        for name, (_, matrices) in sorted(info.matrices.items()):
            if name in self.counts:
                found[name] = int((self.counts[name] == 0).sum())
            elif not is_own:
                found[name] = matrices
        return {name: n for name, n in found.items() if n and is_quantizable(name)}

    def completed(self, shapes: dict[str, tuple[int, int]]) -> dict[str, np.ndarray]:
        """`importances`, and even ones of 1 for each weight of the blocks that it lacks."""
        found = self.importances()
        for name, (columns, matrices) in shapes.items():
            if name not in found:
                found[name] = np.ones(columns * matrices, np.float32)
        return found


def _is_of_split(name: str, shapes: Container[str]) -> bool:
    """Whether a weight is one that the model has in two parts."""
    return "attn_kv_b" in name and all(
        name.replace("attn_kv_b", part) in shapes for part in ("attn_k_b", "attn_v_b")
    )


def _is_row(name: str, shapes: Container[str]) -> bool:
    """Whether a weight is the gate of shared experts, which has one row in all models."""
    return name.endswith(".ffn_gate_inp_shexp.weight") and name not in shapes


def _importance(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    seen = counts[:, None] > 0
    # A merged matrix may count less than one token.
    means = sums.astype(np.float32) / np.where(seen, counts[:, None], 1).astype(np.float32)
    return np.where(seen, means, np.float32(1)).ravel()
