"""Contexts of a model: how they are made, and what they take of memory as llama.cpp reports it.

llama.cpp logs the buffers that it reserves for a context, also for a `hollow` model, for which it
allocates nothing. It has no function of C that tells them.
"""

import re
from typing import NamedTuple

import llama_cpp

from .. import QuernError
from .library import complaint, listening, recent, tensor_types
from .way import Way

FLASH = {"auto": -1, "none": 0}  # llama_flash_attn_type of llama.h
CELLS = 256  # the K/V cache of a sequence is a multiple of it
MIB = 1 << 20
LOGGED_BYTES = 0.01 * MIB  # to which llama.cpp logs a size
_CACHE = re.compile(r"\bsize = +([\d.]+) MiB \( *\d+ cells")
_COMPUTE = re.compile(r"(?:compute|output) buffer size = +([\d.]+) MiB")


class Reserved(NamedTuple):
    """Bytes of a context, each the sum of some buffers that are logged to 0.01 MiB.

    Attributes:
        cache: the K/V cache and the state of recurrent layers.
        compute: the buffers of the graph, on all devices, and that of the logits.
        caches: how many sizes the first is the sum of.
    """

    cache: int
    compute: int
    caches: int


def context_params(model, n_ctx: int, width: int, threads: int):
    """llama_context_params for `n_ctx` tokens, of which one decode call takes at most `width`."""
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = n_ctx
    params.n_batch = width
    params.n_ubatch = min(model.way.n_ubatch, width)
    params.n_threads = params.n_threads_batch = threads
    params.no_perf = True
    params.offload_kqv = params.op_offload = bool(model.way.gpus)
    params.type_k = params.type_v = tensor_types()[model.kv_type.upper()]
    params.flash_attn_type = FLASH[model.flash]
    return params


def make_context(model, params):
    """A llama_context, which the caller frees.

    Raises:
        QuernError: llama.cpp cannot make it; its own reason is quoted.
    """
    recent.clear()
    context = llama_cpp.llama_init_from_model(model._model, params)
    if not context:
        raise QuernError(
            f"llama.cpp cannot make a context of {params.n_ctx} tokens with a K/V cache of "
            f"{model.kv_type} for {model.path}: {complaint()}"
        )
    return context


def require_decoded(model, status: int) -> None:
    """Refuse what llama_decode returned.

    Raises:
        QuernError: it is no success; llama.cpp's own reason is quoted.
    """
    if status:
        raise QuernError(
            f"llama.cpp failed to decode with {model.path} (status {status}): {complaint()}"
        )


def reserved(model, n_ctx: int) -> Reserved:
    """What llama.cpp reserves for a context of `n_ctx` tokens, one sequence.

    As in llama-server, layers with a sliding window keep no more than they need, and a graph has
    room for one row of logits.

    Raises:
        QuernError: llama.cpp cannot make the context.
    """
    params = context_params(model, n_ctx, Way.n_batch, model.way.threads)
    params.swa_full, params.n_outputs_max = False, 1
    return _heard(model, params)


def reserved_for_windows(model, n_ctx: int) -> Reserved:
    """What llama.cpp reserves for each context in which `model` decodes windows of `n_ctx` tokens.

    Raises:
        QuernError: llama.cpp cannot make the context.
    """
    width = min(n_ctx, model.way.n_batch)
    return _heard(model, context_params(model, n_ctx, width, model.way.threads))


def _heard(model, params) -> Reserved:
    with listening() as heard:
        llama_cpp.llama_free(make_context(model, params))
    said = "".join(heard)
    caches, compute = ([float(size) * MIB for size in p.findall(said)] for p in (_CACHE, _COMPUTE))
    return Reserved(round(sum(caches)), round(sum(compute)), len(caches))
