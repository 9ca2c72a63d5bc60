"""Quantize a model with llama.cpp, with or without an imatrix, reproducibly."""

import logging
import os
import re
from pathlib import Path

import numpy as np

from .. import QuernError, files, llama
from ..gguf_files import ModelInfo, open_gguf, require_unquantized
from ..imatrix import formats
from .recipes import Recipe

log = logging.getLogger("quern.quantization")


def quantize(
    model: Path,
    info: ModelInfo,
    recipe: Recipe,
    output: Path,
    *,
    imatrix: Path | None = None,
    unreached: str = "neutral",
    threads: int = 1,
) -> list[str]:
    """Write the quantized model; the same inputs give the same bytes in any folder.

    The imatrix is recorded under llama-quantize's own keys, its path relative to the output's
    folder.

    Args:
        recipe: its name of an imatrix and its rounding do not count here.
        unreached: what to do with weights that calibration did not reach, or not in all experts:
            `neutral` weights them evenly where it did not, `refuse` raises, and the name of a
            tensor type gives the whole weight that type.

    Returns:
        What the user should know of the result, a sentence each.

    Raises:
        QuernError: the model is quantized already, a type is unknown, the imatrix is of another
            model or lacks weights that it must not, or llama.cpp refuses.
    """
    require_unquantized(info, model)
    _require_type(recipe.type, llama.quantization_types(), "quantization type")
    others = [recipe.output_type, recipe.token_embedding_type, *(t for _, t in recipe.tensor_types)]
    for name in filter(None, others):
        _require_type(name, llama.tensor_types(), "tensor type")
    importances, metadata, overrides = None, None, list(recipe.tensor_types)
    notes = []
    if imatrix is not None:
        matrix = formats.read(imatrix).fitted(info.matrices, imatrix)
        importances = matrix.importances(recipe.prior)
        metadata = {
            "quantize.imatrix.file": os.path.relpath(imatrix, output.parent),
            **({"quantize.imatrix.dataset": matrix.datasets[0]} if matrix.datasets else {}),
            "quantize.imatrix.entries_count": len(importances),
            "quantize.imatrix.chunks_count": matrix.chunks,
        }
        if recipe.prior:
            metadata["quern.imatrix.prior"] = str(recipe.prior)
        lacking = matrix.unreached(info.matrices)
        overrides += _treat(lacking, unreached, importances, info, imatrix)
        notes = notes_on(lacking, info.matrices, unreached)
        for note in notes:
            log.warning("%s", note)
    for name, kind in (
        ("output.weight", recipe.output_type),
        ("token_embd.weight", recipe.token_embedding_type),
    ):
        if kind and kind.startswith(("IQ1", "IQ2")) and name not in (importances or {}):
            raise QuernError(
                f"{name} cannot become {kind}, which needs importances, and there are none of it; "
                "choose another type."
            )
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
            tensor_overrides=overrides,
        )
        open_gguf(temporary)  # refuses a file that is cut short
    return notes


def notes_on(lacking: dict[str, int], shapes: dict[str, tuple[int, int]], policy: str) -> list[str]:
    """What was done about weights that calibration did not reach, in sentences."""
    done = "they are weighed evenly" if policy == "neutral" else f"these weights are {policy}"
    return [
        f"{name}: calibration did not reach {count} of {shapes[name][1]} matrices; {done}."
        for name, count in lacking.items()
    ]


def _treat(lacking, policy, importances, info, imatrix) -> list[tuple[str, str]]:
    """Carry out the policy for weights that calibration did not reach; further overrides."""
    if not lacking:
        return []
    first = next(iter(lacking))
    if policy == "refuse":
        raise QuernError(
            f"{imatrix} lacks {lacking[first]} of {info.matrices[first][1]} matrices of {first}, "
            f"and some of {len(lacking)} weights in all; calibrate with more text, or choose "
            "another policy for what is unreached."
        )
    for name in lacking:
        columns, matrices = info.matrices[name]
        if policy == "neutral" and name not in importances:
            importances[name] = np.ones(columns * matrices, np.float32)
    if policy == "neutral":
        return []
    _require_type(policy, llama.tensor_types(), "tensor type")
    return [(f"^{re.escape(name)}$", policy) for name in lacking]


def _require_type(name: str, known: dict[str, int], what: str) -> None:
    if name not in known:
        raise QuernError(f"llama.cpp knows no {what} {name}; it knows {', '.join(sorted(known))}.")
