"""Text of a model's own: tokens drawn as it predicts them."""

from collections.abc import Iterator

import llama_cpp
import numpy as np

from .. import QuernError
from .contexts import CELLS, context_params, make_context, require_decoded
from .library import recent
from .model import SMALL_MODEL, Model, fill
from .streams import END

AT_ONCE = 8  # texts that share a graph, since a token alone takes as long as eight


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
    groups = range(0, count, AT_ONCE)
    # A graph of a few tokens is soon over: with other processes on the cores, two threads that
    # wait for each other took 40 times as long as one.
    is_small = llama_cpp.llama_model_size(model._model) <= SMALL_MODEL and not model.way.gpus

    def stream(own, threads):
        threads = 1 if is_small else threads
        with _Texts(model, length, threads) as texts:
            for group in own:
                # Texts that are not asked for are drawn too, so that all graphs are alike.
                rngs = [np.random.default_rng([seed, group + i]) for i in range(AT_ONCE)]
                yield from texts.draw(rngs)[: count - group]
                yield END

    return model._in_turns(stream, groups, length, True)


class _Texts:
    """A context in which `AT_ONCE` texts of `length` tokens are drawn at a time."""

    def __init__(self, model: Model, length: int, threads: int):
        self._model, self._length = model, length
        params = context_params(model, AT_ONCE * CELLS * -(-length // CELLS), AT_ONCE, threads)
        params.n_seq_max = AT_ONCE
        self._ctx = make_context(model, params)
        self._memory = llama_cpp.llama_get_memory(self._ctx)
        self._batch = llama_cpp.llama_batch_init(AT_ONCE, 0, 1)
        self._batch.n_tokens = AT_ONCE
        fill(self._batch.n_seq_id, np.ones(AT_ONCE, np.int32))
        fill(self._batch.logits, np.ones(AT_ONCE, np.int8))
        for i in range(AT_ONCE):
            self._batch.seq_id[i][0] = i

    def __enter__(self):
        return self

    def __exit__(self, *_):
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self._ctx)

    def draw(self, rngs: list[np.random.Generator]) -> np.ndarray:
        """A text for each source of random numbers, int32 [texts, length]."""
        if self._memory:
            llama_cpp.llama_memory_clear(self._memory, True)
        found = np.empty((AT_ONCE, self._length), np.int32)
        tokens = np.full(AT_ONCE, self._model.bos, np.int32)
        for position in range(self._length):
            found[:, position] = tokens = self._next(tokens, position, rngs)
        return found

    def _next(self, tokens, position, rngs):
        """The token that follows in each text, int32 [texts]."""
        fill(self._batch.token, tokens)
        fill(self._batch.pos, np.full(AT_ONCE, position, np.int32))
        recent.clear()
        require_decoded(self._model, llama_cpp.llama_decode(self._ctx, self._batch))
        shape = AT_ONCE, self._model.n_vocab
        logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits(self._ctx), shape)
        logits = logits.astype(np.float64)
        below = np.exp(logits - logits.max(axis=1, keepdims=True)).cumsum(axis=1)
        drawn = [
            np.searchsorted(row, rng.random() * row[-1], side="right")
            for row, rng in zip(below, rngs, strict=True)
        ]
        return np.minimum(drawn, self._model.n_vocab - 1).astype(np.int32)
