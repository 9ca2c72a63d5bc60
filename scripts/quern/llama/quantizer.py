"""Quantization by llama.cpp: whole models, and rows of single tensors.

Sources: include/llama.h (llama_model_quantize) and ggml/include/ggml.h (ggml_quantize_chunk).
"""

import ctypes
import errno
import os
import shutil
from pathlib import Path

import llama_cpp
import numpy as np

from .. import QuernError
from .library import (
    VERSION,
    block_size,
    complaint,
    ggml_base,
    quantization_types,
    recent,
    start,
    tensor_types,
)


def quantize(
    model: Path,
    output: Path,
    kind: str,
    *,
    threads: int = 1,
    importances: dict[str, np.ndarray] | None = None,
    metadata: dict[str, str | int] | None = None,
    pure: bool = False,
    output_type: str | None = None,
    token_embedding_type: str | None = None,
    tensor_overrides: list[tuple[str, str]] = (),
    allow_requantize: bool = False,
) -> None:
    """Write `model` quantized to `kind`, through llama_model_quantize.

    Args:
        kind: a name of `quantization_types()`.
        importances: mean squared input per weight, float32 [rows of experts × columns].
        metadata: keys added to the GGUF (strings up to 127 bytes, integers).
        pure: the same type for all tensors.
        output_type, token_embedding_type: names of `tensor_types()`.
        tensor_overrides: (regular expression on the tensor's name, type), first match wins.

    Raises:
        QuernError: llama.cpp refuses; its own reason is quoted.
    """
    start()
    params = llama_cpp.llama_model_quantize_default_params()
    params.nthread, params.ftype = threads, quantization_types()[kind]
    params.pure, params.allow_requantize = pure, allow_requantize
    if output_type:
        params.output_tensor_type = tensor_types()[output_type]
    if token_embedding_type:
        params.token_embedding_type = tensor_types()[token_embedding_type]
    if importances:
        arrays = [(n.encode(), np.ascontiguousarray(a, np.float32)) for n, a in importances.items()]
        data = (llama_cpp.llama_model_imatrix_data * (len(arrays) + 1))()
        for entry, (name, array) in zip(data, arrays, strict=False):
            entry.name, entry.size = name, array.size
            entry.data = array.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        params.imatrix = data
    if tensor_overrides:
        types = (llama_cpp.llama_model_tensor_override * (len(tensor_overrides) + 1))()
        for entry, (pattern, name) in zip(types, tensor_overrides, strict=False):
            entry.pattern, entry.type = pattern.encode(), tensor_types()[name]
        params.tt_overrides = types
    if metadata:
        params.kv_overrides = _metadata(metadata)
    recent.clear()
    status = llama_cpp.llama_model_quantize(
        str(model).encode(), str(output).encode(), ctypes.byref(params)
    )
    if status != 0:
        if shutil.disk_usage(output.parent).free < 1 << 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(output))
        raise QuernError(f"llama.cpp cannot quantize {model} to {kind}: {complaint()}")


def _metadata(pairs: dict[str, str | int]):
    entries = (llama_cpp.llama_model_kv_override * (len(pairs) + 1))()
    for entry, (key, value) in zip(entries, pairs.items(), strict=False):
        entry.key = key.encode()
        if isinstance(value, str):
            entry.tag = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_STR
            entry.value.val_str = value.encode()[:127]
        else:
            entry.tag = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_INT
            entry.value.val_i64 = value
    return entries


def quantize_rows(
    kind: str, values: np.ndarray, importances: np.ndarray | None = None
) -> np.ndarray:
    """Quantize rows with ggml_quantize_chunk.

    Args:
        kind: a name of `tensor_types()`.
        values: float32 [rows, columns].
        importances: float32 [columns], weights of the squared errors.

    Returns:
        The rows' bytes, uint8 [rows, bytes of a row].

    Raises:
        QuernError: the shapes do not fit, or the type needs importances.
    """
    weights, size = block_size(kind)
    values = np.ascontiguousarray(values, np.float32)
    if values.ndim != 2 or values.size == 0 or values.shape[1] % weights:
        raise QuernError(f"rows of shape {values.shape} are no whole blocks of {kind}.")
    if importances is not None:
        importances = np.ascontiguousarray(importances, np.float32)
        if importances.shape != values.shape[1:]:
            raise QuernError(
                f"{importances.size} importances do not fit rows of {values.shape[1]} weights."
            )
    lib, number = ggml_base(), tensor_types()[kind]
    if importances is None and lib.ggml_quantize_requires_imatrix(number):
        raise QuernError(f"{kind} needs importances.")
    rows, columns = values.shape
    out = np.empty((rows, columns // weights * size), np.uint8)
    written = lib.ggml_quantize_chunk(
        number,
        values.ctypes.data,
        out.ctypes.data,
        0,
        rows,
        columns,
        None if importances is None else importances.ctypes.data,
    )
    if written != out.nbytes:
        raise QuernError(f"ggml wrote {written} bytes of {kind} instead of {out.nbytes}.")
    return out


def dequantize_rows(kind: str, raw: np.ndarray) -> np.ndarray:
    """Values of quantized rows, as ggml computes them.

    Args:
        kind: a name of `tensor_types()`.
        raw: uint8 [rows, bytes of a row].

    Returns:
        float32 [rows, columns].

    Raises:
        QuernError: the bytes are no whole blocks, or ggml cannot widen the type.
    """
    weights, size = block_size(kind)
    raw = np.ascontiguousarray(raw, np.uint8)
    if raw.ndim != 2 or raw.size == 0 or raw.shape[1] % size:
        raise QuernError(f"bytes of shape {raw.shape} are no whole blocks of {kind}.")
    traits = ggml_base().ggml_get_type_traits(tensor_types()[kind]).contents
    if (traits.blck_size, traits.type_size) != (weights, size) or not traits.to_float:
        raise QuernError(f"llama-cpp-python {VERSION} offers no way to widen {kind}.")
    out = np.empty((len(raw), raw.shape[1] // size * weights), np.float32)
    traits.to_float(raw.ctypes.data, out.ctypes.data, out.size)
    return out
