"""Models in memory: tokens, logits, hidden states, inputs of matrix products.

Windows are cut and shared among batches as in llama.cpp's tools/perplexity and tools/imatrix.
"""

import ctypes
import functools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import llama_cpp
import numpy as np

from .. import QuernError
from .contexts import FLASH, context_params, make_context, require_decoded, reserved_for_windows
from .fit import fitting, needs_of, overrides
from .library import (
    block_size,
    complaint,
    cpu_buffers,
    cpu_reports_amx,
    free_on_gpus,
    listening,
    log,
    recent,
    start,
)
from .streams import END, InTurns
from .taps import InputTap, OutputTap, Product, Tap
from .way import ONE_THREAD, Way
from .weights import Weight, WeightTap

_REPACKED = re.compile(r"^tensor (\S+) .* buffer type overridden to CPU_REPACK$", re.M)
LOADS = ("mapped", "editable", "vocab", "hollow")
KV_TYPE = "f16"  # llama.cpp's default
SMALL_MODEL = 512 << 20  # bytes of weights up to which two contexts are faster than one
LOGITS_BYTES = 96 << 20  # bound on the logits of one decode call
GPU_LOGITS_BYTES = 512 << 20  # the same of a machine whose models are on GPUs


class Model:
    """A GGUF model in memory (mapped), closed by `with`.

    Args:
        path: the GGUF file.
        way: how it is run.
        n_ctx: tokens of the longest context that is to fit on the GPUs beside it.
        load: what of it, one of `LOADS`: `mapped` all, from its file; `editable` all, so that
            `weights` can be exchanged; `vocab` the tokenizer alone; `hollow` the metadata alone,
            to ask what contexts would take.
        kv_type: ggml's type of the K and the V cache.
        flash: flash attention, `none` or `auto`, which takes it where the device has it, and always
            for a quantized cache.

    Attributes:
        way: another may be set between windows, with the same GPUs.
        repacked: of a `hollow` model on the CPU, the names of the tensors that llama.cpp would copy
            into a layout of its own, while the file stays mapped.

    Raises:
        QuernError: llama.cpp cannot load the file (its own reason is quoted), a GPU is asked for
            and llama.cpp can use none, or ggml knows no such `kv_type`.
    """

    def __init__(
        self,
        path: Path,
        way: Way = ONE_THREAD,
        *,
        n_ctx: int = Way.n_batch,
        load: str = "mapped",
        kv_type: str = KV_TYPE,
        flash: str = "auto",
    ):
        start()
        if load not in LOADS or flash not in FLASH:
            raise ValueError(f"load is one of {LOADS}, flash one of {tuple(FLASH)}")
        self.kv_type, self.flash = kv_type, flash
        block_size(kv_type.upper())  # ggml must know it
        self.path, self.way, self._gpu_contexts = Path(path), way, 1
        self._running = set()
        if not self.path.is_file():
            raise QuernError(f"model {path} does not exist.")
        params = llama_cpp.llama_model_default_params()
        if way.gpus and not llama_cpp.llama_supports_gpu_offload():
            raise QuernError(
                "a GPU is asked for, but llama.cpp finds none; build llama-cpp-python for it (see "
                "profiles/README.md) or set the rule's gpu resource to 0."
            )
        params.n_gpu_layers = -1 if way.gpus else 0
        params.vocab_only, params.no_alloc = load == "vocab", load == "hollow"
        if way.gpus and load in ("mapped", "editable"):
            self._put_on_gpus(params, n_ctx)
        if load in ("editable", "hollow"):  # in memory of its own, or in none
            params.load_mode = llama_cpp.LLAMA_LOAD_MODE_NONE
        if load == "editable":  # laid out as in the file
            params.use_extra_bufts = False
        if cpu_reports_amx():
            params.use_extra_bufts = False
            log.info("this CPU has AMX, which crashes llama.cpp: extra buffer types are off")
        if load == "hollow" and not way.gpus:  # llama.cpp names the buffer of what is overridden
            self._kept = cpu_buffers([""])
            params.tensor_buft_overrides = ctypes.addressof(self._kept)
        recent.clear()
        with listening() as heard:
            self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        self.repacked = set(_REPACKED.findall("".join(heard)))
        if not self._model:
            raise QuernError(f"llama.cpp cannot load the model {path}: {complaint()}")
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(self._vocab)
        self.n_embd = llama_cpp.llama_model_n_embd(self._model)
        self.add_bos = bool(llama_cpp.llama_vocab_get_add_bos(self._vocab))
        self.bos = llama_cpp.llama_vocab_bos(self._vocab)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for running in self._running:  # contexts must not outlive their model
            running.close()
        llama_cpp.llama_model_free(self._model)
        self._model = None

    def _put_on_gpus(self, params, n_ctx: int) -> None:
        """Say in a model's parameters how much of it the GPUs get."""
        if layers := os.environ.get("LLAMA_ARG_N_GPU_LAYERS"):
            if not layers.isdigit():
                raise QuernError(f"LLAMA_ARG_N_GPU_LAYERS is {layers}, and no number of layers.")
            params.n_gpu_layers = int(layers)
            return
        cache = {"kv_type": self.kv_type, "flash": self.flash}
        with Model(self.path, self.way, load="hollow", **cache) as hollow:
            own = reserved_for_windows(hollow, n_ctx)
        free = free_on_gpus()
        for self._gpu_contexts in (2, 1):  # two where nothing must make room for the second
            many = self._gpu_contexts
            needs = needs_of(self.path, many * own.cache, many * own.compute)
            fit = fitting(needs, free)
            if all_of_it := fit == (len(needs.layers) + 1, 0):
                break
        params.n_gpu_layers = fit.layers
        self._kept = cpu_buffers(overrides(fit))  # llama.cpp reads it while it loads the model
        params.tensor_buft_overrides = ctypes.addressof(self._kept)
        if not all_of_it:
            log.warning(
                "%s does not fit into the %.1f GB free on %d GPUs: %d of %d layers are there, the "
                "experts of %d on the CPU",
                *(self.path, sum(free) / 1e9, len(free), fit.layers, len(needs.layers) + 1),
                fit.experts,
            )

    def usual_contexts(self, n_ctx: int) -> int:
        """How many contexts decode windows side by side, unless told otherwise.

        Two with half of the threads each wait less for each other's threads than one with all. It
        is not done where windows are long, for want of memory, nor for larger models, whose weights
        would be read twice as often. On GPUs, one decodes while the logits of the other are used.
        """
        if self.way.gpus:
            return self._gpu_contexts
        small = llama_cpp.llama_model_size(self._model) <= SMALL_MODEL
        return 2 if small and n_ctx <= Way.n_batch and self.way.threads % 2 == 0 else 1

    def logits_fit(self, n_scored: int) -> bool:
        """Whether one decode call may keep the logits of so many positions."""
        return n_scored <= self.positions_of_logits()

    def positions_of_logits(self) -> int:
        """For how many positions one decode call may keep the logits."""
        room = GPU_LOGITS_BYTES if self.way.gpus else LOGITS_BYTES
        return max(1, room // (self.n_vocab * 4))

    def weights(self) -> dict[str, Weight]:
        """The weights that the model's graph reads, by name; it must be loaded as `editable`.

        Raises:
            QuernError: there are none in a float type.
        """
        tap = WeightTap()
        with _Context(self, 64, tap, threads=self.way.threads) as context:
            context.probe(0)
            tap.learned()
        return tap.found

    def tokenize(self, text: bytes, *, special: bool = False) -> np.ndarray:
        """Tokens of UTF-8 `text`, int32 [n]. No BOS; special tokens as text unless `special`."""
        size = len(text) + 16
        tokens = (llama_cpp.llama_token * size)()
        n = llama_cpp.llama_tokenize(self._vocab, text, len(text), tokens, size, False, special)
        if n < 0:
            raise QuernError(f"{self.path}: its tokenizer failed on {len(text)} bytes of text.")
        return np.frombuffer(tokens, np.int32, n).copy()

    def piece_bytes(self) -> np.ndarray:
        """How many bytes of text each token stands for, int32 [n_vocab]."""
        buffer = ctypes.create_string_buffer(1024)
        size = functools.partial(llama_cpp.llama_token_to_piece, self._vocab)
        lengths = (size(i, buffer, len(buffer), 0, True) for i in range(self.n_vocab))
        return np.fromiter((abs(n) for n in lengths), np.int32, self.n_vocab)

    def text_tokens(self) -> np.ndarray:
        """The tokens that stand for text, int32 [n]: none of control, unknown or unused ones."""
        others = (
            llama_cpp.LLAMA_TOKEN_ATTR_CONTROL
            | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
            | llama_cpp.LLAMA_TOKEN_ATTR_UNUSED
        )
        kinds = (llama_cpp.llama_vocab_get_attr(self._vocab, i) for i in range(self.n_vocab))
        return np.flatnonzero(np.fromiter(kinds, np.int32) & others == 0).astype(np.int32)

    def pieces(self, tokens: np.ndarray) -> list[bytes]:
        """The text of each token, special ones written out; its pieces joined are UTF-8."""
        buffer = ctypes.create_string_buffer(1024)

        def piece(token):
            n = llama_cpp.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, True)
            return buffer.raw[: max(n, 0)]

        return [piece(int(token)) for token in tokens]

    def with_bos(self, windows: np.ndarray) -> np.ndarray:
        """`windows` with the first token of each replaced by BOS, where the model adds one."""
        if self.add_bos:
            windows = windows.copy()
            windows[:, 0] = self.bos
        return windows

    def logits(
        self, windows: np.ndarray, first: int, last: int
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        """Decode whole windows and hand out the logits at positions `first` to `last` - 1.

        Args:
            windows: tokens, int32 [n, n_ctx], BOS already in place; an array, or anything with
                its `shape` that can be sliced, such as `windows.Windows`.
            first, last: the scored positions.

        Yields:
            (window, position, logits): `logits` is float32 [k, n_vocab], a view of llama.cpp's
            buffer for positions position … position + k - 1, valid until the next step.

        Raises:
            QuernError: llama.cpp fails to decode.
        """
        n_ctx = windows.shape[1]

        def stream(numbers, threads):
            with _Context(self, n_ctx, threads=threads) as context:
                for i in numbers:
                    for position, rows in context.logits(windows[i : i + 1][0], first, last):
                        yield i, position, rows
                    yield END

        fits = self.logits_fit(last - first)
        return self._in_turns(stream, range(len(windows)), n_ctx, fits)

    def hidden_states(
        self, windows: np.ndarray, first: int, last: int, *, with_logits: bool = False
    ) -> Iterator[tuple[int, int, np.ndarray, np.ndarray | None]]:
        """Decode whole windows and hand out what enters the output matrix.

        The graph stops before the product with that matrix; with `with_logits`, that of the last
        positions of each window goes on.

        Args:
            windows, first, last: as for `logits`.
            with_logits: hand out the logits of the last positions of each window as well.

        Yields:
            (window, position, hidden, logits): `hidden` is float32 [k, n_embd], `logits` as
            `Model.logits` yields it, or None.

        Raises:
            QuernError: llama.cpp fails to decode, or the model has no such product.
        """
        n_ctx = windows.shape[1]

        def stream(numbers, threads):
            tap = OutputTap(logits=with_logits)
            with _Context(self, n_ctx, tap, threads=threads) as context:
                context.probe(windows[:1][0, 0])
                tap.learned()
                for i in numbers:
                    for begin, end in context.parts(windows[i : i + 1][0], first, last):
                        hidden = tap.take()
                        low, high = max(first, begin), min(last, end)
                        if low >= high:
                            continue
                        rows = None
                        if with_logits and end == last:
                            rows = context.outputs(high - low)
                        yield i, low, hidden, rows
                    yield END

        return self._in_turns(stream, range(len(windows)), n_ctx, not with_logits)

    def activations(
        self,
        windows: np.ndarray,
        wanted: Callable[[str], bool],
        collect: Callable[[int, Product], None],
    ) -> Iterator[int]:
        """Decode windows one by one and show the inputs of matrix products to `collect`.

        The graph stops after the last wanted product, so the output matrix is not computed. Even
        and odd windows may be at work at the same time, in threads of their own.

        Args:
            windows: tokens, int32 [n, n_ctx], BOS already in place.
            wanted: whether the weight of this name is of interest.
            collect: called with a window's index and each `Product`, whose arrays are valid only
                during the call.

        Yields:
            The index of each window that is done, in order.
        """
        n_ctx = windows.shape[1]

        def stream(numbers, threads):
            tap = InputTap(wanted, collect)
            with _Context(self, n_ctx, tap, self.way.n_ubatch, threads) as context:
                context.probe(windows[:1][0, 0])
                tap.learned()
                for i in numbers:
                    tap.window = i
                    # Every position asks for logits: otherwise the last layer's rows are pruned.
                    for _ in context.parts(windows[i : i + 1][0], 0, n_ctx):
                        tap.end_of_graph()
                    yield i
                    yield END

        return self._in_turns(stream, range(len(windows)), n_ctx, True)

    def _in_turns(self, stream, groups: range, n_ctx: int, fits: bool) -> Iterator:
        """The items of `stream(groups, threads)`, from several contexts where logits `fit`."""
        wanted = self.way.contexts or self.usual_contexts(n_ctx)
        count = wanted if fits and len(groups) > 1 else 1
        streams = [stream(groups[k::count], self.way.threads // count) for k in range(count)]
        running = InTurns(streams, len(groups))
        self._running.add(running)
        try:
            yield from running
        finally:
            running.close()
            self._running.discard(running)


class _Context:
    """A llama_context for windows of `n_ctx` tokens, one after the other.

    A window shares no graph with another: with quantized weights, the last digits depend on what
    else is in the graph. It may be decoded in parts of at most `width` tokens, and its scored
    positions in parts whose logits stay within LOGITS_BYTES.
    """

    def __init__(
        self,
        model: Model,
        n_ctx: int,
        tap: Tap | None = None,
        width: int | None = None,
        threads: int = 1,
    ):
        self.model, self.n_ctx, self._tap = model, n_ctx, tap
        self._width = min(n_ctx, width or model.way.n_batch)
        params = context_params(model, n_ctx, self._width, threads)
        if tap:
            params.cb_eval, params.abort_callback = tap.callback, tap.abort
        self._ctx = make_context(model, params)
        self._memory = llama_cpp.llama_get_memory(self._ctx)
        self._batch = llama_cpp.llama_batch_init(params.n_batch, 0, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self._ctx)

    def probe(self, token: int) -> None:
        """Decode one token, for a tap to see the graph."""
        self._decode(np.array([token]), 0, 0, 1)

    def parts(self, window: np.ndarray, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Decode a window from an empty memory; yield the positions begin, end of each part."""
        if self._memory:
            llama_cpp.llama_memory_clear(self._memory, True)
        scored = self.model.positions_of_logits()
        few_at_a_time = last - first > scored
        if self._tap and self._tap.discards_logits and self.n_ctx <= self._width:
            few_at_a_time = False  # a graph that is left early writes no logits
        scored = -(-(last - first) // -(-(last - first) // scored))  # parts of equal length
        begin = 0
        while begin < last:
            end = min(begin + self._width, last)
            if few_at_a_time:  # first the positions that ask for no logits
                end = min(end, first) if begin < first else min(end, begin + scored)
            if self._tap:
                self._tap.at_end = end == last
            self._decode(window[begin:end], begin, first, last)
            yield begin, end
            begin = end

    def logits(self, window, first, last) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (position, logits [k, n_vocab]) for positions `first` to `last` - 1."""
        for begin, end in self.parts(window, first, last):
            low, high = max(first, begin), min(last, end)
            if low < high:
                yield low, self.outputs(high - low)

    def _decode(self, tokens, begin, first, last):
        batch, n = self._batch, len(tokens)
        batch.n_tokens = n
        position = np.arange(begin, begin + n, dtype=np.int32)
        fill(batch.token, np.ascontiguousarray(tokens, np.int32))
        fill(batch.pos, position)
        fill(batch.n_seq_id, np.ones(n, np.int32))
        fill(batch.logits, ((position >= first) & (position < last)).astype(np.int8))
        for i in range(n):
            batch.seq_id[i][0] = 0
        recent.clear()
        status = llama_cpp.llama_decode(self._ctx, batch)
        if not (self._tap and self._tap.aborted):
            require_decoded(self.model, status)

    def outputs(self, rows: int) -> np.ndarray:
        """The logits of the last decode call, float32 [rows, n_vocab], a view."""
        pointer = llama_cpp.llama_get_logits(self._ctx)
        return np.ctypeslib.as_array(pointer, (rows, self.model.n_vocab))


def fill(pointer, values: np.ndarray) -> None:
    """Copy an array to where a pointer of a batch points."""
    ctypes.memmove(pointer, values.ctypes.data, values.nbytes)
