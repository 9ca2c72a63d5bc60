"""Quantization by llama.cpp: whole models, and rows of single tensors.

Sources: include/llama.h (llama_model_quantize) and ggml/include/ggml.h (ggml_quantize_chunk).
"""

import ctypes
import errno
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import llama_cpp
import numpy as np

from .. import QuernError, RecipeError
from .library import (
    VERSION,
    block_size,
    complaint,
    ggml_base,
    listening,
    quantization_types,
    recent,
    start,
    target_types,
    tensor_types,
)


@dataclass(frozen=True)
class QuantizationParameters:
    """What llama_model_quantize is asked to make of a model.

    Attributes:
        kind: a name of `quantization_types()`.
        importances: mean squared input per weight, float32 [rows of experts × columns].
        metadata: keys added to the GGUF (strings up to 127 bytes, integers).
        pure: the same type for all tensors.
        output_type, token_embedding_type: names of `target_types()`.
        tensor_types: names of `target_types()`, by tensor.
        requantize: whether tensors that are quantized already may be given another type.
    """

    kind: str
    importances: dict[str, np.ndarray] | None = None
    metadata: dict[str, str | int] | None = None
    pure: bool = False
    output_type: str | None = None
    token_embedding_type: str | None = None
    tensor_types: dict[str, str] = field(default_factory=dict)
    requantize: bool = False


def quantize(
    model: Path,
    output: Path,
    wanted: QuantizationParameters,
    *,
    threads: int = 1,
) -> None:
    """Write `model` quantized, through llama_model_quantize.

    Raises:
        RecipeError: llama.cpp refuses what is wanted; its own reason is quoted.
        QuernError: llama.cpp fails for another reason, such as a file that cannot be read.
        OSError: the disk is full.
    """
    _quantize(model, output, wanted, nthread=threads)


def planned_types(
    model: Path, wanted: QuantizationParameters
) -> tuple[dict[str, str], dict[str, str]]:
    """The types that `quantize` would give, without the work.

    Returns:
        Each tensor's type, and, where its rows do not allow the type that was meant, that one.

    Raises:
        RecipeError, QuernError: as for `quantize`.
    """
    with listening() as heard:
        _quantize(model, Path(os.devnull), wanted, dry_run=True)
    lines = "".join(heard).splitlines()
    given = [found.groups() for line in lines if (found := _GIVEN.match(line))]
    types = {name: (new or old).upper() for name, old, new in given}
    return types, {f[1]: f[2].upper() for line in lines if (f := _FALLBACK.match(line))}


# As src/llama-quant.cpp prints them.
_GIVEN = re.compile(
    r"\[ *\d+/ *\d+\] +(\S+) +- \[.*\], type = +(\w+), size = [^>]*?MiB(?: -> .*\((\w+)\))?$"
)
_FALLBACK = re.compile(r"warning: (\S+) +- ncols +\d+ not divisible by .* type +(\w+)\)")

# What lies in the types that are asked for; all else that fails may lie in a file or the machine.
_REFUSAL = re.compile(
    "imatrix|importance matrix|requantizing|dequantiz|data validation failed|output file type"
)


def _quantize(model: Path, output: Path, wanted: QuantizationParameters, **options) -> None:
    start()
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.pure = quantization_types()[wanted.kind], wanted.pure
    params.allow_requantize = wanted.requantize
    for name, value in options.items():
        setattr(params, name, value)
    if wanted.output_type:
        params.output_tensor_type = target_types()[wanted.output_type]
    if wanted.token_embedding_type:
        params.token_embedding_type = target_types()[wanted.token_embedding_type]
    if wanted.importances:
        arrays = {n: np.ascontiguousarray(a, np.float32) for n, a in wanted.importances.items()}
        data = (llama_cpp.llama_model_imatrix_data * (len(arrays) + 1))()
        for entry, (name, array) in zip(data, arrays.items(), strict=False):
            entry.name, entry.size = name.encode(), array.size
            entry.data = array.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        params.imatrix = data
    if wanted.tensor_types:
        types = (llama_cpp.llama_model_tensor_override * (len(wanted.tensor_types) + 1))()
        for entry, (name, kind) in zip(types, wanted.tensor_types.items(), strict=False):
            entry.pattern, entry.type = f"^{re.escape(name)}$".encode(), target_types()[kind]
        params.tt_overrides = types
    if wanted.metadata:
        params.kv_overrides = _metadata(wanted.metadata)
    recent.clear()
    status = llama_cpp.llama_model_quantize(
        str(model).encode(), str(output).encode(), ctypes.byref(params)
    )
    if status != 0:
        if not params.dry_run and shutil.disk_usage(output.parent).free < 1 << 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(output))
        reason = complaint()
        kind = RecipeError if _REFUSAL.search(reason) else QuernError
        raise kind(f"llama.cpp cannot quantize {model} to {wanted.kind}: {reason}")


def _metadata(pairs: dict[str, str | int]):
    entries = (llama_cpp.llama_model_kv_override * (len(pairs) + 1))()
    for entry, (key, value) in zip(entries, pairs.items(), strict=False):
        entry.key = key.encode()
        if isinstance(value, str):
            entry.tag = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_STR
            entry.value.val_str = metadata_text(value)
        else:
            entry.tag = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_INT
            entry.value.val_i64 = value
    return entries


def metadata_text(value: str) -> bytes:
    """A string as llama.cpp takes it: 127 bytes at most, cut between characters."""
    return value.encode()[:127].decode(errors="ignore").encode()


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
