"""What a model takes of memory at given contexts, as llama.cpp reserves it.

llama.cpp logs sizes to 0.01 MiB. Where each layer keeps the keys and values of all tokens, their
bytes follow from the metadata as well. Source: llama.cpp's src/llama-kv-cache.cpp.

On a CPU, llama.cpp copies some tensors into another layout, while their file stays mapped. Which
ones depends on their types and on the CPU; llama.cpp says it of a model that it does not load.
"""

from pathlib import Path

from .. import QuernError, gguf_header, llama
from ..gguf_files import GgufTensor, ModelInfo, tensors_of
from ..gguf_header import Header

USUAL_CONTEXT = 4096  # tokens, where none are asked for and the model was trained for as many
THREADS = 2  # of the CPU; each takes 0.5 MiB of scratch for K- and I-quants


def footprint(
    model: Path,
    info: ModelInfo,
    *,
    contexts: list[int] | None = None,
    kv_types: list[str],
    gpus: int = 0,
) -> dict:
    """Bytes of a model's tensors, and of each context with each type of the K/V cache.

    Nothing of the model's weights is read. On GPUs nothing counts as repacked, nor as scratch.

    Args:
        contexts: tokens; `USUAL_CONTEXT` where it is None, or what the model was trained for.
        kv_types: ggml's types of keys and values, such as `q8_0`.

    Returns:
        `tensor_bytes`, `repacked_bytes` (of tensors that llama.cpp copies on this CPU), and in
        `contexts` for each `n_ctx` and `kv_type` the `kv_bytes`, `compute_bytes` (of graphs, their
        scratch with `THREADS` threads, and logits) and `total_bytes`, the sum of the four. The
        `kv_source` of `kv_bytes` is `metadata` where they agree with what llama.cpp reserves, and
        else `llama.cpp`.

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
    header, tensors = gguf_header.read(model), tensors_of(model)
    found, repacked = [], 0
    for kind in kv_types:
        with llama.Model(model, llama.Way(gpus=gpus), load="hollow", kv_type=kind) as hollow:
            repacked = sum(tensors[name].n_bytes for name in hollow.repacked)
            for n_ctx in contexts:
                reserved = llama.reserved(hollow, n_ctx)
                kept, source = reserved.cache, "llama.cpp"
                exact = cache_bytes(header, n_ctx, kind)
                if abs(exact - kept) <= reserved.caches * llama.LOGGED_BYTES:
                    kept, source = exact, "metadata"
                compute = reserved.compute
                if not gpus:
                    compute += scratch(tensors, hollow.repacked, n_ctx)
                found.append(
                    {
                        "n_ctx": n_ctx,
                        "kv_type": kind,
                        "kv_bytes": kept,
                        "compute_bytes": compute,
                        "total_bytes": info.tensor_bytes + repacked + kept + compute,
                        "kv_source": source,
                    }
                )
    found.sort(key=lambda entry: contexts.index(entry["n_ctx"]))
    sizes = {"tensor_bytes": info.tensor_bytes, "repacked_bytes": repacked}
    return sizes | {"contexts": found}


def scratch(tensors: dict[str, GgufTensor], repacked: set[str], n_ctx: int) -> int:
    """Bytes of the CPU's scratch that the products of a graph fill.

    The output matrix has one row of inputs, which fills next to nothing.
    """
    rows = min(n_ctx, llama.Way.n_ubatch)
    products = {
        # Kernels of repacked tensors want 8 bits a number and no workspace, as those of Q8_0.
        ("Q8_0" if name in repacked else t.tensor_type.name, t.shape[0], rows)
        for name, t in tensors.items()
        if len(t.shape) > 1 and name not in llama.OUTPUT_WEIGHTS
    }
    return llama.scratch_bytes(products, THREADS)


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
