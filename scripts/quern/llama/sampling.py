"""Text of a model's own: tokens drawn as it predicts them."""

from collections.abc import Iterator

import llama_cpp
import numpy as np

from .. import QuernError
from .library import complaint, recent
from .model import Model, context_params, fill, make_context

AT_ONCE = 8  # texts that share a graph, since a token alone takes as long as eight
_CELLS = 256  # llama.cpp's K/V cache of a sequence is a multiple of this


def samples(model: Model, count: int, length: int, seed: int) -> Iterator[np.ndarray]:
    """Draw `count` texts of `length` tokens at temperature 1, each after BOS, no part of it.

    Nothing is cut off the distribution, and a text goes on after an end of text. Each has random
    numbers of its own, so more texts begin with the same ones.

    Yields:
        The tokens of each, int32 [length].

    Raises:
        QuernError: the model has no BOS, or llama.cpp fails to decode.
    """
    if model.bos < 0:
        raise QuernError(f"{model.path} has no BOS, with which its samples would begin.")
    params = context_params(model, AT_ONCE * _CELLS * -(-length // _CELLS), AT_ONCE, model.threads)
    params.n_seq_max = AT_ONCE
    context = make_context(model, params)
    batch = llama_cpp.llama_batch_init(AT_ONCE, 0, 1)
    try:
        for first in range(0, count, AT_ONCE):
            rngs = [np.random.default_rng([seed, first + i]) for i in range(AT_ONCE)]
            # Texts that are not asked for are drawn all the same, so that all graphs are alike.
            yield from _drawn(model, context, batch, length, rngs)[: count - first]
    finally:
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)


def _drawn(model, context, batch, length, rngs) -> np.ndarray:
    """A text for each source of random numbers, int32 [texts, length]."""
    if memory := llama_cpp.llama_get_memory(context):
        llama_cpp.llama_memory_clear(memory, True)
    n = batch.n_tokens = len(rngs)
    fill(batch.n_seq_id, np.ones(n, np.int32))
    fill(batch.logits, np.ones(n, np.int8))
    for i in range(n):
        batch.seq_id[i][0] = i
    found = np.empty((n, length), np.int32)
    tokens = np.full(n, model.bos, np.int32)
    for position in range(length):
        fill(batch.token, tokens)
        fill(batch.pos, np.full(n, position, np.int32))
        recent.clear()
        if status := llama_cpp.llama_decode(context, batch):
            raise QuernError(
                f"llama.cpp failed to decode with {model.path} (status {status}): {complaint()}"
            )
        logits = np.ctypeslib.as_array(
            llama_cpp.llama_get_logits(context), (n, model.n_vocab)
        ).astype(np.float64)
        below = np.exp(logits - logits.max(axis=1, keepdims=True)).cumsum(axis=1)
        for i, rng in enumerate(rngs):
            drawn = np.searchsorted(below[i], rng.random() * below[i, -1], side="right")
            tokens[i] = min(drawn, model.n_vocab - 1)
        found[:, position] = tokens
    return found
