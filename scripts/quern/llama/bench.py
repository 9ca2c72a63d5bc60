"""Decoding against the clock, as llama.cpp's tools/llama-bench does it."""

import ctypes
import time

import llama_cpp
import numpy as np

from .contexts import context_params, make_context, require_decoded
from .model import Model
from .way import Way

POINTER = ctypes.POINTER(llama_cpp.llama_token)


class Bench:
    """A context in which prompts and single tokens are decoded and timed, closed by `with`.

    As in llama-bench the tokens are random, nothing is sampled, a prompt's last position alone asks
    for logits, and layers with a sliding window keep no more than they need.

    Args:
        model: what is timed, with the threads of its way.
        n_ctx: tokens that the context must hold.

    Raises:
        QuernError: llama.cpp cannot make the context.
    """

    def __init__(self, model: Model, n_ctx: int):
        self._model, self._rng = model, np.random.default_rng(0)
        params = context_params(model, n_ctx, Way.n_batch, model.way.threads)
        params.swa_full, params.n_outputs_max = False, 1
        self._ctx = make_context(model, params)
        self._memory = llama_cpp.llama_get_memory(self._ctx)
        self._kept = 0, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        llama_cpp.llama_free(self._ctx)

    def fill(self, depth: int) -> None:
        """Let the context hold `depth` tokens and no others; computed once, then copied."""
        if self._memory:
            llama_cpp.llama_memory_clear(self._memory, False)
        if not depth:
            return
        known, state = self._kept
        if known == depth and self._restored(state):
            return
        self.prompt(depth)
        size = llama_cpp.llama_state_seq_get_size(self._ctx, 0)
        state = (ctypes.c_uint8 * size)()
        llama_cpp.llama_state_seq_get_data(self._ctx, state, size, 0)
        self._kept = depth, state

    def _restored(self, state) -> bool:
        return bool(llama_cpp.llama_state_seq_set_data(self._ctx, state, len(state), 0))

    def prompt(self, n: int) -> float:
        """Decode `n` tokens, as many at once as a prompt's are; the seconds that it took."""
        return self._decode(n, Way.n_batch)

    def generate(self, n: int) -> float:
        """Decode `n` tokens one after the other; the seconds that it took."""
        return self._decode(n, 1)

    def _decode(self, n, at_once):
        tokens = (llama_cpp.llama_token * n)(*self._tokens(n).tolist())
        # Made before the clock starts: a token of a small model takes half a millisecond.
        batches = [
            llama_cpp.llama_batch_get_one(
                ctypes.cast(
                    ctypes.byref(tokens, i * ctypes.sizeof(llama_cpp.llama_token)), POINTER
                ),
                min(at_once, n - i),
            )
            for i in range(0, n, at_once)
        ]
        begin = time.perf_counter()
        for batch in batches:
            require_decoded(self._model, llama_cpp.llama_decode(self._ctx, batch))
            if at_once == 1:
                llama_cpp.llama_synchronize(self._ctx)
        llama_cpp.llama_synchronize(self._ctx)
        return time.perf_counter() - begin

    def _tokens(self, n):
        tokens = self._rng.integers(0, self._model.n_vocab, n, np.int32)
        if self._model.add_bos:
            tokens[0] = self._model.bos
        return tokens
