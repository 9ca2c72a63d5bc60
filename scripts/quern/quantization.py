"""Quantize a model with llama.cpp, with or without an imatrix, reproducibly."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from . import QuernError, files, llama
from .gguf_files import ModelInfo, require_unquantized
from .imatrix import Imatrix

log = logging.getLogger("quern.quantization")


@dataclass(frozen=True)
class Recipe:
    """How a model is quantized.

    Attributes:
        type: a type as llama-quantize names it (`Q4_K_M`).
        pure: the same type for all tensors.
        output_type, token_embedding_type: tensor types of the output and embedding matrices.
        tensor_types: (regular expression on the tensor's name, tensor type), first match wins.
    """

    type: str
    pure: bool = False
    output_type: str | None = None
    token_embedding_type: str | None = None
    tensor_types: tuple[tuple[str, str], ...] = ()


def quantize(
    model: Path,
    info: ModelInfo,
    recipe: Recipe,
    output: Path,
    *,
    imatrix: Path | None = None,
    threads: int = 1,
) -> None:
    """Write the quantized model; the same inputs give the same bytes in any folder.

    The imatrix is recorded under llama-quantize's own keys, its path relative to the output's
    folder.

    Raises:
        QuernError: the model is quantized already, a type is unknown, the imatrix is of another
            model, or llama.cpp refuses.
    """
    require_unquantized(info, model)
    _require_type(recipe.type, llama.quantization_types(), "quantization type")
    others = [recipe.output_type, recipe.token_embedding_type, *(t for _, t in recipe.tensor_types)]
    for name in filter(None, others):
        _require_type(name, llama.tensor_types(), "tensor type")
    importances, metadata = None, None
    if imatrix is not None:
        matrix = Imatrix.read(imatrix)
        matrix.require_fit(info, imatrix)
        importances = matrix.importances()
        metadata = {
            "quantize.imatrix.file": os.path.relpath(imatrix, output.parent),
            **({"quantize.imatrix.dataset": matrix.datasets[0]} if matrix.datasets else {}),
            "quantize.imatrix.entries_count": len(importances),
            "quantize.imatrix.chunks_count": matrix.chunks,
        }
        for name, count in matrix.unreached().items():
            log.warning("%s: %d experts were never reached and get neutral weights", name, count)
    with files.replacing(output) as temporary:
        llama.quantize(
            model,
            temporary,
            recipe.type,
            threads=threads,
            importances=importances,
            metadata=metadata,
            pure=recipe.pure,
            output_type=recipe.output_type,
            token_embedding_type=recipe.token_embedding_type,
            tensor_overrides=list(recipe.tensor_types),
        )


def _require_type(name: str, known: dict[str, int], what: str) -> None:
    if name not in known:
        raise QuernError(f"llama.cpp knows no {what} {name}; it knows {', '.join(sorted(known))}.")
