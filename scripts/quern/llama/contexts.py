"""What a context takes of memory, as llama.cpp itself reports it.

llama.cpp logs the buffers that it reserves for a context, also for a `hollow` model, for which it
allocates nothing. It has no function of C that tells them.
"""

import re
from typing import NamedTuple

import llama_cpp

from .library import listening
from .model import TOKENS_PER_BATCH, Model, context_params, make_context

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


def reserved(model: Model, n_ctx: int) -> Reserved:
    """What llama.cpp reserves for a context of `n_ctx` tokens, one sequence.

    As in llama-server, layers with a sliding window keep no more than they need, and a graph has
    room for one row of logits.

    Raises:
        QuernError: llama.cpp cannot make the context.
    """
    params = context_params(model, n_ctx, TOKENS_PER_BATCH, model.threads)
    params.swa_full, params.n_outputs_max = False, 1
    return _heard(model, params)


def reserved_for_windows(model: Model, n_ctx: int) -> Reserved:
    """What llama.cpp reserves for each context in which `model` decodes windows of `n_ctx` tokens.

    Raises:
        QuernError: llama.cpp cannot make the context.
    """
    width = min(n_ctx, model.tokens_per_batch)
    return _heard(model, context_params(model, n_ctx, width, model.threads))


def _heard(model: Model, params) -> Reserved:
    with listening() as heard:
        llama_cpp.llama_free(make_context(model, params))
    said = "".join(heard)
    caches, compute = ([float(size) * MIB for size in p.findall(said)] for p in (_CACHE, _COMPUTE))
    return Reserved(round(sum(caches)), round(sum(compute)), len(caches))
