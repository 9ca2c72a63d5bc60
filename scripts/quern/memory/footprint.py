"""What a model takes of memory at given contexts, as llama.cpp reserves it.

llama.cpp logs sizes to 0.01 MiB. Where each layer keeps the keys and values of all tokens, their
bytes follow from the metadata as well. Source: llama.cpp's src/llama-kv-cache.cpp.
"""

from pathlib import Path

from .. import QuernError, gguf_header, llama
from ..gguf_files import ModelInfo
from ..gguf_header import Header

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

    Nothing of the model's weights is read.

    Args:
        contexts: tokens; `USUAL_CONTEXT` where it is None, or what the model was trained for.
        kv_types: ggml's types of keys and values, such as `q8_0`.

    Returns:
        `tensor_bytes`, and in `contexts` for each `n_ctx` and `kv_type` the `kv_bytes`,
        `compute_bytes` (of graphs and logits) and `total_bytes`. The `kv_source` of `kv_bytes` is
        `metadata` where they agree with what llama.cpp reserves, and else `llama.cpp`.

    Raises:
        QuernError: a context is longer than the model was trained for, or llama.cpp cannot make a
            context, such as where a type's blocks do not divide a head.
    """
    trained = info.context_length
    contexts = contexts or [min(USUAL_CONTEXT, trained or USUAL_CONTEXT)]
    if trained and (beyond := [n for n in contexts if n > trained]):
        raise QuernError(
            f"{model} was trained for contexts of {trained} tokens, and report.contexts names "
            f"{beyond[0]}; name {trained} or fewer."
        )
    header = gguf_header.read(model)
    found = []
    for kind in kv_types:
        with llama.Model(model, llama.Way(gpus=gpus), load="hollow", kv_type=kind) as hollow:
            for n_ctx in contexts:
                reserved = llama.reserved(hollow, n_ctx)
                kept, source = reserved.cache, "llama.cpp"
                exact = cache_bytes(header, n_ctx, kind)
                if abs(exact - kept) <= reserved.caches * llama.LOGGED_BYTES:
                    kept, source = exact, "metadata"
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


def cache_bytes(header: Header, n_ctx: int, kv_type: str) -> int:
    """Bytes of keys and values where each layer keeps those of `n_ctx` tokens; 0 if nothing says.

    Args:
        kv_type: ggml's type of keys and values, such as `q8_0`.
    """
    architecture = header.get("general.architecture")
    sizes = ("block_count", "embedding_length", "attention.head_count", "attention.head_count_kv")
    layers, width, heads, groups = (header.get(f"{architecture}.{key}", 0) for key in sizes)
    if not heads or isinstance(heads, list) or isinstance(groups, list):
        return 0  # layers differ
    keys, values = (
        (groups or heads) * header.get(f"{architecture}.attention.{name}_length", width // heads)
        for name in ("key", "value")
    )
    weights, size = llama.block_size(kv_type.upper())
    cells = -(-n_ctx // llama.CELLS) * llama.CELLS
    return layers * cells * (keys // weights + values // weights) * size
