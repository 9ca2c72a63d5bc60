"""Weights of a loaded model, exchanged in place.

They are found in a graph: tensors that a product or a lookup reads and nothing computes. A model
whose weights are exchanged is not mapped from its file, and its weights are laid out as in the file
(`Model`'s `load`).
"""

import ctypes
from typing import NamedTuple

import numpy as np

from .. import QuernError, half_types
from .library import ggml_base
from .taps import Tap, op_name, weight_name

_READERS = ("MUL_MAT", "MUL_MAT_ID", "GET_ROWS")
_DTYPES = {0: np.dtype(np.float32), 1: np.dtype(np.float16), 30: np.dtype(np.uint16)}  # ggml_type


class Weight(NamedTuple):
    """Where a weight lies in memory.

    Attributes:
        addresses: of its ggml_tensor; of each copy that the graph reads.
        dtype: float32, float16, or uint16 for the bits of bfloat16.
        columns, rows: its shape; the rows of all experts.
    """

    addresses: tuple[int, ...]
    dtype: np.dtype
    columns: int
    rows: int

    def write(self, values: np.ndarray, first: int = 0) -> None:
        """Put rows, float32 [n, columns], in place of those from `first` on."""
        is_brain = self.dtype == np.uint16
        stored = half_types.to_bfloat16(values) if is_brain else values.astype(self.dtype)
        stored = np.ascontiguousarray(stored)
        begin = first * self.columns * self.dtype.itemsize
        for address in self.addresses:
            ggml_base().ggml_backend_tensor_set(address, stored.ctypes.data, begin, stored.nbytes)


class WeightTap(Tap):
    """Finds the weights that a graph reads, by name."""

    def __init__(self):
        super().__init__()
        self.found: dict[str, Weight] = {}

    def learned(self) -> None:
        super().learned()
        if not self.found:
            raise QuernError("the model's graph reads no weights that can be exchanged.")

    def _probe(self, tensor):
        if op_name(tensor.op) not in _READERS:
            return
        source = tensor.src[0].contents
        if op_name(source.op) != "NONE" or source.type not in _DTYPES:
            return
        columns, n1, n2, n3 = source.ne
        address, name = ctypes.cast(tensor.src[0], ctypes.c_void_p).value, weight_name(tensor)
        known = self.found[name].addresses if name in self.found else ()
        addresses = known if address in known else (*known, address)
        self.found[name] = Weight(addresses, _DTYPES[source.type], columns, n1 * n2 * n3)

    def _wants(self, tensor):
        return False

    def _see(self, tensor):
        return True
