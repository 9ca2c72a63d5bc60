"""The CPU's scratch for a graph's products, which llama.cpp allocates and does not report.

It holds a product's inputs in the type that the weights' kernel wants, and a workspace of each
thread for some types. ggml's own plan of a product says how many bytes that is.
"""

import ctypes
from collections.abc import Iterable

from .library import InitParams, backend_of, ggml_base, tensor_types

DESCRIPTION_BYTES = 1 << 20  # for what describes a graph, not its values


def scratch_bytes(products: Iterable[tuple[str, int, int]], threads: int) -> int:
    """Bytes that one thread pool needs for the largest of some products.

    Args:
        products: of each the weights' ggml type (`Q4_K`), their columns, and the rows of inputs.
    """
    backend = backend_of(False, threads)
    try:
        return max((_planned(backend, *product) for product in products), default=0)
    finally:
        ggml_base().ggml_backend_free(backend)


def _planned(backend: int, kind: str, columns: int, rows: int) -> int:
    lib = ggml_base()
    context = lib.ggml_init(InitParams(DESCRIPTION_BYTES, None, True))
    try:
        weights = lib.ggml_new_tensor_2d(context, tensor_types()[kind], columns, 1)
        inputs = lib.ggml_new_tensor_2d(context, tensor_types()["F32"], columns, rows)
        graph = lib.ggml_new_graph(context)
        lib.ggml_build_forward_expand(graph, lib.ggml_mul_mat(context, weights, inputs))
        plan = lib.ggml_backend_graph_plan_create(backend, graph)
        # A plan of the CPU begins with struct ggml_cplan of ggml-cpu.h, and that with work_size.
        planned = ctypes.cast(plan, ctypes.POINTER(ctypes.c_size_t))[0]
        lib.ggml_backend_graph_plan_free(backend, plan)
        return planned
    finally:
        lib.ggml_free(context)
