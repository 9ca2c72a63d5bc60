"""A product of matrices that ggml computes on a device, with the kernels that models run on there.

The weights go to the device once. Each number of rows has a graph of one product, with its input
and output beside it (ggml.h, ggml-alloc.h and ggml-backend.h of ggml/include).
"""

from typing import NamedTuple

import numpy as np

from .. import QuernError
from ..ggml_types import FLOATS
from ..stored_rows import StoredRows
from .library import InitParams, backend_of, complaint, ggml_base, recent, tensor_types

BLOCK_BYTES = 64 << 20  # of weights that are read and sent at a time
SCRATCH_BYTES = 1 << 20  # for what describes a graph, not its values
TYPES = {np.dtype(numbers): name for numbers, name in FLOATS.items() if numbers != "float64"}


class _Graph(NamedTuple):
    """A product of so many rows: ggml's graph, its input, its output."""

    graph: int
    rows: int
    product: int


class DeviceProduct:
    """A matrix on a device, to multiply rows with.

    Args:
        weights: [n, columns], float16, float32, or bfloat16 as its bits in uint16.
        gpu: the first GPU, or the CPU as ggml computes on it.
        threads: of the CPU.

    Raises:
        QuernError: there is no such device, or no room on it.
    """

    def __init__(self, weights: np.ndarray | StoredRows, *, gpu: bool = True, threads: int = 1):
        self.shape = weights.shape
        self._contexts, self._buffers, self._graphs = [], [], {}
        self._backend = backend_of(gpu, threads)
        context = self._context()
        kind = tensor_types()[TYPES[weights[:1].dtype]]
        self._weights = ggml_base().ggml_new_tensor_2d(context, kind, *reversed(self.shape))
        self._allocate(context)
        step = max(1, BLOCK_BYTES // weights[:1].nbytes)
        for start in range(0, len(weights), step):
            block = np.ascontiguousarray(weights[start : start + step])
            offset = start * block[:1].nbytes
            ggml_base().ggml_backend_tensor_set(
                self._weights, block.ctypes.data, offset, block.nbytes
            )

    def __del__(self):
        for buffer in getattr(self, "_buffers", ()):
            ggml_base().ggml_backend_buffer_free(buffer)
        for context in getattr(self, "_contexts", ()):
            ggml_base().ggml_free(context)
        if backend := getattr(self, "_backend", None):
            ggml_base().ggml_backend_free(backend)

    def multiply(self, rows: np.ndarray, out: np.ndarray) -> None:
        """rows · weightsᵀ.

        Args:
            rows: float32 [k, columns].
            out: float32 [k, n], contiguous, overwritten.

        Raises:
            QuernError: no room for them on the device, or it fails.
        """
        lib, graph = ggml_base(), self._graphs.get(len(rows)) or self._graph(len(rows))
        rows = np.ascontiguousarray(rows, np.float32)
        lib.ggml_backend_tensor_set(graph.rows, rows.ctypes.data, 0, rows.nbytes)
        if status := lib.ggml_backend_graph_compute(self._backend, graph.graph):
            raise QuernError(f"a product on the device failed (status {status}): {complaint()}")
        lib.ggml_backend_tensor_get(graph.product, out.ctypes.data, 0, out.nbytes)

    def _graph(self, count: int) -> _Graph:
        lib, context = ggml_base(), self._context()
        rows = lib.ggml_new_tensor_2d(context, tensor_types()["F32"], self.shape[1], count)
        product = lib.ggml_mul_mat(context, self._weights, rows)
        graph = lib.ggml_new_graph(context)
        lib.ggml_build_forward_expand(graph, product)
        self._allocate(context)
        self._graphs[count] = _Graph(graph, rows, product)
        return self._graphs[count]

    def _context(self) -> int:
        self._contexts.append(ggml_base().ggml_init(InitParams(SCRATCH_BYTES, None, True)))
        return self._contexts[-1]

    def _allocate(self, context: int) -> None:
        """Give the tensors of a context memory on the device."""
        recent.clear()
        buffer = ggml_base().ggml_backend_alloc_ctx_tensors(context, self._backend)
        if not buffer:
            raise QuernError(f"there is no room on the device: {complaint()}")
        self._buffers.append(buffer)
