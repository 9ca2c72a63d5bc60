"""Quantize a model with llama.cpp, with or without an imatrix, reproducibly."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from .. import RecipeError, files, llama
from ..ggml_types import PUBLISHED, UNQUANTIZED, needs_importances
from ..gguf_files import GgufTensor, ModelInfo, open_gguf, require_unquantized, tensors_of
from ..imatrix import formats
from ..imatrix.matrix import Imatrix
from . import tensor_types
from .recipes import Recipe

log = logging.getLogger("quern.quantization")


class Quantized(NamedTuple):
    """What is to be known of a quantized model.

    Attributes:
        notes: what the user should know, a sentence each.
        tensors: as `tensor_types.account` gives them.
    """

    notes: list[str]
    tensors: dict[str, dict[str, str]]


def quantize(
    model: Path,
    info: ModelInfo,
    recipe: Recipe,
    output: Path,
    *,
    imatrix: Path | None = None,
    imatrix_n_ctx: int = formats.CHUNK_SIZE,
    unreached: str = "neutral",
    types: Mapping[str, str] | None = None,
    threads: int = 1,
) -> Quantized:
    """Write the quantized model; the same inputs give the same bytes in any folder.

    The imatrix is recorded under llama-quantize's own keys, its path relative to the output's
    folder.

    Args:
        recipe: its name of an imatrix and its rounding do not count here.
        imatrix_n_ctx: tokens of its windows, which a `.dat` does not say.
        unreached: what to do with weights that calibration did not reach, or not in all experts:
            `neutral` weights them evenly where it did not, `refuse` raises, and the name of a
            tensor type gives the whole weight that type.
        types: by tensor, of a mix or another file.

    Raises:
        RecipeError: a type is unknown, does not fit a tensor or needs importances, a pattern has no
            effect, the imatrix lacks weights that it must not, or llama.cpp refuses the recipe.
        QuernError: the model is quantized already, or the imatrix is damaged or of another model.
    """
    require_unquantized(info, model)
    _require_type(recipe.type, llama.quantization_types(), "quantization type")
    others = [recipe.output_type, recipe.token_embedding_type, *(t for _, t in recipe.tensor_types)]
    for name in filter(None, others):
        _require_type(name, llama.target_types(), "tensor type")
    if recipe.ignores_patterns:
        raise RecipeError(recipe.ignores_patterns)
    importances, metadata, notes = None, None, []
    tensors = tensors_of(model)
    asked = tensor_types.asked_for(recipe, list(tensors)) | dict(types or {})
    published = published_types({n: t for n, t in tensors.items() if n not in asked})
    if imatrix is not None:
        matrix = formats.read(imatrix, imatrix_n_ctx).fitted(info.matrices, imatrix)
        metadata = imatrix_metadata(imatrix, matrix, output.parent)
        lacking = {n: k for n, k in matrix.unreached(info).items() if n not in published}
        asked = _treat(lacking, unreached, info, imatrix) | asked
        even = set(info.matrices) - (set() if unreached == "neutral" else set(lacking))
        importances = matrix.completed({name: info.matrices[name] for name in even})
        notes = notes_on(lacking, info.matrices, unreached)
    if published and recipe.type not in UNQUANTIZED:  # to those, llama.cpp widens all tensors
        asked |= published
        kinds = ", ".join(sorted(set(published.values())))
        notes.append(
            f"{len(published)} of {len(tensors)} tensors stay {kinds}, as the model was published."
        )
    for name in ("output.weight", "token_embd.weight"):
        kind = asked.get(name)
        if kind and needs_importances(kind, name) and name not in (importances or {}):
            raise RecipeError(
                f"{name} cannot become {kind}, which needs importances, and there are none of it; "
                "choose another type."
            )
    wanted = llama.QuantizationParameters(
        recipe.type,
        importances,
        metadata,
        recipe.pure,
        recipe.output_type,
        recipe.token_embedding_type,
        asked,
        requantize=bool(set(info.tensor_types) & PUBLISHED),
    )
    given = tensor_types.account(asked, *llama.planned_types(model, wanted), tensors)
    notes += tensor_types.require_effect(recipe, given)
    notes += tensor_types.require_exact(types or {}, given)
    for note in notes:
        log.warning("%s", note)
    with files.replacing(output) as temporary:
        llama.quantize(model, temporary, wanted, threads=threads)
        open_gguf(temporary)  # refuses a file that is cut short
    return Quantized(notes, given)


def published_types(tensors: Mapping[str, GgufTensor]) -> dict[str, str]:
    """The types of tensors that their model was published with, and exists with alone."""
    types = {name: tensor.tensor_type.name for name, tensor in tensors.items()}
    return {name: kind for name, kind in types.items() if kind in PUBLISHED}


def imatrix_metadata(imatrix: Path, matrix: Imatrix, folder: Path) -> dict[str, str | int]:
    """What a model that is written to `folder` says of its imatrix."""
    return {
        "quantize.imatrix.file": os.path.relpath(imatrix, folder),
        **({"quantize.imatrix.dataset": matrix.datasets[0]} if matrix.datasets else {}),
        "quantize.imatrix.entries_count": len(matrix.sums),
        "quantize.imatrix.chunks_count": matrix.chunks,
    }


def header_bytes(model: Path, metadata: Mapping[str, str | int] | None = None) -> int:
    """Bytes before the tensors' data of what llama.cpp makes of a model, whatever their types."""
    readers = [open_gguf(path) for path in files.shards(model)]
    pairs = {
        key: entry.size
        for key, entry in readers[0].header.fields.items()
        if not key.startswith("split.")
    }
    numbers = {"general.quantization_version": 0, "general.file_type": 0}
    for key, value in (numbers | dict(metadata or {})).items():
        size = 8 + len(llama.metadata_text(value)) if isinstance(value, str) else 4
        pairs[key] = 8 + len(key.encode()) + 4 + size
    tensors = [t for reader in readers for t in reader.tensors]
    infos = sum(8 + len(t.name.encode()) + 4 + 8 * len(t.shape) + 4 + 8 for t in tensors)
    size = 24 + sum(pairs.values()) + infos
    alignment = readers[0].header.alignment
    return -(-size // alignment) * alignment


def notes_on(lacking: dict[str, int], shapes: dict[str, tuple[int, int]], policy: str) -> list[str]:
    """What was done about weights that calibration did not reach, in sentences."""
    done = "they are weighed evenly" if policy == "neutral" else f"these weights are {policy}"
    return [
        f"{name}: calibration did not reach {count} of {shapes[name][1]} matrices; {done}."
        for name, count in lacking.items()
    ]


def _treat(lacking, policy, info, imatrix) -> dict[str, str]:
    """The types that the policy gives to weights that calibration did not reach."""
    if not lacking:
        return {}
    first = next(iter(lacking))
    if policy == "refuse":
        raise RecipeError(
            f"{imatrix} lacks {lacking[first]} of {info.matrices[first][1]} matrices of {first}, "
            f"and some of {len(lacking)} weights in all; calibrate with more text, or choose "
            "another policy for what is unreached."
        )
    if policy == "neutral":
        return {}
    _require_type(policy, llama.target_types(), "tensor type")
    return dict.fromkeys(lacking, policy)


def _require_type(name: str, known: dict[str, int], what: str) -> None:
    if name not in known:
        raise RecipeError(f"llama.cpp knows no {what} {name}; it knows {', '.join(sorted(known))}.")
