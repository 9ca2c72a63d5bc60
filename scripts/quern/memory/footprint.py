"""What a model takes of memory at given contexts, computed and checked against llama.cpp."""

import logging
from pathlib import Path

from .. import QuernError, llama
from ..gguf_files import ModelInfo
from .cache import cache_bytes, layers_of, require_whole_blocks

log = logging.getLogger("quern.memory")

USUAL_CONTEXT = 4096  # tokens, where none are asked for and the model was trained for as many


def footprint(
    model: Path,
    info: ModelInfo,
    *,
    contexts: list[int] | None = None,
    kv_types: list[str],
    gpus: int = 0,
) -> dict:
    """Bytes of a model's tensors, and of each context with each type of the K/V cache.

    The cache's bytes are those of the metadata where llama.cpp reserves as many, and llama.cpp's
    (to 0.01 MiB) where it does not; `kv_source` says which. Nothing of the model's weights is read.

    Args:
        contexts: tokens; `USUAL_CONTEXT` where it is None, or what the model was trained for.
        kv_types: ggml's types of keys and values, such as `q8_0`.

    Returns:
        `tensor_bytes`, and in `contexts` for each `n_ctx` and `kv_type` the `kv_bytes`,
        `compute_bytes` (of graphs and logits) and `total_bytes`.

    Raises:
        QuernError: a context is longer than the model was trained for, its heads are no multiple of
            a type's blocks, or llama.cpp cannot make a context.
    """
    trained = info.context_length
    contexts = contexts or [min(USUAL_CONTEXT, trained or USUAL_CONTEXT)]
    if trained and (beyond := [n for n in contexts if n > trained]):
        raise QuernError(
            f"{model} was trained for contexts of {trained} tokens, and report.contexts names "
            f"{beyond[0]}; name {trained} or fewer."
        )
    layers = layers_of(model)
    found = []
    for kind in kv_types:
        require_whole_blocks(layers, kind, model)
        with llama.Model(model, llama.Way(gpus=gpus), load="hollow", kv_type=kind) as hollow:
            for n_ctx in contexts:
                reserved = llama.reserved(hollow, n_ctx)
                kept, source = _agreed(cache_bytes(layers, n_ctx, kind), reserved, model)
                found.append(
                    {
                        "n_ctx": n_ctx,
                        "kv_type": kind,
                        "kv_bytes": kept,
                        "compute_bytes": reserved.compute,
                        "total_bytes": info.tensor_bytes + kept + reserved.compute,
                        "kv_source": source,
                    }
                )
    found.sort(key=lambda entry: contexts.index(entry["n_ctx"]))
    return {"tensor_bytes": info.tensor_bytes, "contexts": found}


def _agreed(computed: int, reserved: llama.Reserved, model: Path) -> tuple[int, str]:
    """What was computed where llama.cpp reserves as much, else what it reserves; and which."""
    if abs(computed - reserved.cache) <= reserved.caches * llama.LOGGED_BYTES:
        return computed, "metadata"
    log.warning(
        "%s: its metadata promise a K/V cache of %d bytes, llama.cpp reserves %d, which counts",
        *(model, computed, reserved.cache),
    )
    return reserved.cache, "llama.cpp"
