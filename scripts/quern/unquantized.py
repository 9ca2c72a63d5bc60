"""The weights of an unquantized model, read from its files piece by piece."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import QuernError, gguf_files, half_types
from .ggml_types import AS_PUBLISHED, PUBLISHED, TENSOR_TYPES, UNQUANTIZED
from .gguf_files import GgufTensor
from .stored_rows import StoredRows


@dataclass(frozen=True)
class UnquantizedTensor:
    """Where the values of a tensor lie."""

    path: Path
    tensor: GgufTensor

    @property
    def columns(self) -> int:
        """The length of its rows."""
        return self.tensor.shape[0]

    @property
    def rows(self) -> int:
        """How many rows it has; those of all experts."""
        return self.tensor.n_elements // self.columns

    @property
    def matrices(self) -> int:
        """How many matrices it stacks: experts, or 1."""
        return self.tensor.shape[2] if len(self.tensor.shape) > 2 else 1

    def float32(self, first: int, last: int) -> np.ndarray:
        """Rows `first` to `last` - 1, float32 [n, columns]; infinite and NaN in halves stay so."""
        dtype = np.dtype(TENSOR_TYPES[self.tensor.tensor_type.name].numbers)
        offset = self.tensor.data_offset
        values = StoredRows(self.path, offset, dtype, self.rows, self.columns)[first:last]
        if values.dtype == np.float64:
            return values.astype(np.float32)
        if values.dtype == np.float16 and not np.isfinite(values).all():
            return values.astype(np.float32)
        return half_types.to_float32(values)


def tensors_of(model: Path) -> dict[str, UnquantizedTensor]:
    """Where each tensor of an unquantized model lies, by name; those that it publishes quantized
    are left out.

    Raises:
        QuernError: a file is missing or damaged, or the model is quantized.
    """
    found = {}
    for path in gguf_files.shards(model):
        for tensor in gguf_files.open_gguf(path).tensors:
            found[tensor.name] = UnquantizedTensor(path, tensor)
    quantized = {s.tensor.tensor_type.name for s in found.values()} - UNQUANTIZED
    if quantized - AS_PUBLISHED:
        raise QuernError(
            f"{model} is already quantized ({', '.join(sorted(quantized))}); weights are "
            "rounded from the F16, BF16 or F32 model."
        )
    return {n: t for n, t in found.items() if t.tensor.tensor_type.name not in PUBLISHED}
