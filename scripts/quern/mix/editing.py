"""A model in memory whose weights are exchanged for rounded ones, and measured."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import numpy as np

from .. import QuernError
from ..llama import Model
from ..measure.divergence import position_figures
from ..quantize.recipes import GGML
from ..unquantized import UnquantizedTensor
from .errors import by_matrix, rounded

_AT_ONCE = 1 << 22  # weights that a thread rounds at once


class Editor:
    """Writes rounded weights into an editable model and measures windows; closed by `with`.

    Args:
        sources: the model's tensors by name.
        importances: float32 [matrices · columns] by name; may lack some.
        how: the rounding; `compensated` is `importance` here, for it needs moments.
    """

    def __init__(
        self,
        model: Model,
        sources: Mapping[str, UnquantizedTensor],
        importances: Mapping[str, np.ndarray],
        how: str = GGML,
    ):
        self.model, self._sources, self._importances = model, sources, importances
        self.how, self._weights = how, model.weights()
        self._types: dict[str, str] = {}  # of what is not as in the file
        self._pool = ThreadPoolExecutor(model.way.threads)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_):
        self._pool.shutdown()

    def become(self, types: Mapping[str, str]) -> None:
        """Give tensors these types, and all others their own weights; what is so already stays.

        Raises:
            QuernError: the model computes nothing with such a tensor.
        """
        for name in [n for n in self._types if n not in types]:
            self._write(name, "F32")
            del self._types[name]
        for name, kind in types.items():
            if self._types.get(name) != kind:
                self._write(name, kind)
                self._types[name] = kind

    def _write(self, name: str, kind: str) -> None:
        """Put a tensor's weights in place as they come back from this type."""
        if name not in self._weights:
            raise QuernError(f"{self.model.path} computes nothing with {name}.")
        source, weight = self._sources[name], self._weights[name]
        if (weight.rows, weight.columns) != (source.rows, source.columns):
            raise QuernError(f"{name} lies in memory in another shape than in {source.path}.")
        importances = by_matrix(self._importances.get(name), source)
        height = source.rows // source.matrices
        step = min(height, max(1, _AT_ONCE // source.columns))

        def one(first):
            matrix = first // height
            last = min(first + step, (matrix + 1) * height)
            values = source.float32(first, last)
            return first, rounded(kind, values, importances[matrix], self.how)

        begins = [
            first
            for matrix in range(source.matrices)
            for first in range(matrix * height, (matrix + 1) * height, step)
        ]
        for first, values in self._pool.map(one, begins):
            weight.write(values, first)

    def logits(self, window: np.ndarray, first: int, last: int) -> np.ndarray:
        """What the model says now at positions `first` to `last` - 1, float32 [n, n_vocab]."""
        out = np.empty((last - first, self.model.n_vocab), np.float32)
        for _, position, rows in self.model.logits(window[None], first, last):
            out[position - first : position - first + len(rows)] = rows
        return out

    def figures(
        self, base: np.ndarray, window: np.ndarray, first: int, last: int
    ) -> dict[str, np.ndarray]:
        """`divergence.FIGURES` of what the model says now from what it said, each [positions].

        Args:
            base: the logits before, float32 [last - first, n_vocab].
            window: int32 [n_ctx].

        Raises:
            QuernError: a logit is not finite.
        """
        found: dict[str, list] = {}
        for _, position, rows in self.model.logits(window[None], first, last):
            place = position - first
            targets = window[position + 1 : position + 1 + len(rows)]
            part = position_figures(base[place : place + len(rows)], rows, targets, self._pool)
            for name, values in part.items():
                found.setdefault(name, []).append(values)
        whole = {name: np.concatenate(parts) for name, parts in found.items()}
        if not np.isfinite(whole["kld"]).all():
            raise QuernError(f"{self.model.path} computes logits that are not finite.")
        return whole
