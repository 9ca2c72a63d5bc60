"""The one door to llama.cpp: models, decoding, activations, quantization.

Nobody else imports llama_cpp or ctypes. llama.cpp's log goes to the `quern.llama` logger.
Sources: include/llama.h, ggml/include/ggml.h and tools/ of the llama.cpp that llama-cpp-python
0.3.36 builds.
"""

import ctypes
import functools
import importlib.metadata
import logging
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path

# Threads that wait spin by default; with anything else running, that made a decode 8 times slower.
# Some 10 µs of it save 7 % where the cores are free and cost as much where they are not.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "5000")

import llama_cpp
import numpy as np
from llama_cpp import _ctypes_extensions

from . import QuernError
from .streams import END, InTurns

log = logging.getLogger("quern.llama")

VERSION = importlib.metadata.version("llama-cpp-python")
TOKENS_PER_BATCH = 2048  # tokens of one decode call, as in the peer's tools
TOKENS_PER_UBATCH = 512  # tokens of one graph by default, as in the peer's tools
SMALL_MODEL = 512 << 20  # bytes of weights up to which two contexts are faster than one
LOGITS_BYTES = 96 << 20  # bound on the logits of one decode call

_recent = deque(maxlen=20)  # what llama.cpp said last, for error messages
_muted = set()  # threads that aborted a graph on purpose, which llama.cpp reports as an error
_keep = []  # ctypes callbacks must outlive every call that may use them


# --- the library itself ---------------------------------------------------------------------


@llama_cpp.llama_log_callback
def _on_log(level, text, _):
    line = text.decode("utf-8", "replace").rstrip()
    if line and line.strip(".") and threading.get_ident() not in _muted:
        _recent.append((level, line))
        log.log({3: logging.WARNING, 4: logging.ERROR}.get(level, logging.INFO), "%s", line)


@functools.cache
def _start() -> None:
    llama_cpp.llama_log_set(_on_log, None)
    llama_cpp.llama_backend_init()


def _complaint() -> str:
    """llama.cpp's own last error, or its last line."""
    errors = [line for level, line in _recent if level == 4]
    last = errors or [line for _, line in _recent]
    return last[-1].strip() if last else "no reason given"


class _TypeTraits(ctypes.Structure):
    """struct ggml_type_traits of ggml.h; its sizes are checked against ggml's own before use."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
        ("from_float_ref", ctypes.c_void_p),
    )


@functools.cache
def _ggml_base() -> ctypes.CDLL:
    """libggml-base, with the signatures used here."""
    lib = _ctypes_extensions.load_shared_library(
        "ggml-base", Path(llama_cpp.__file__).parent / "lib"
    )
    for name, result, arguments in (
        ("ggml_op_name", ctypes.c_char_p, [ctypes.c_int]),
        ("ggml_type_name", ctypes.c_char_p, [ctypes.c_int]),
        ("ggml_tensor_overhead", ctypes.c_size_t, []),
        ("ggml_nbytes", ctypes.c_size_t, [ctypes.c_void_p]),
        ("ggml_blck_size", ctypes.c_int64, [ctypes.c_int]),
        ("ggml_type_size", ctypes.c_size_t, [ctypes.c_int]),
        ("ggml_get_type_traits", ctypes.POINTER(_TypeTraits), [ctypes.c_int]),
        ("ggml_quantize_requires_imatrix", ctypes.c_bool, [ctypes.c_int]),
        (
            "ggml_quantize_chunk",
            ctypes.c_size_t,
            [ctypes.c_int, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3, ctypes.c_void_p],
        ),
        ("ggml_backend_buffer_is_host", ctypes.c_bool, [ctypes.c_void_p]),
        (
            "ggml_backend_tensor_get",
            None,
            [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t],
        ),
    ):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


def _cpu_reports_amx() -> bool:
    """Whether ggml would use AMX, whose matrix product crashes on quantized models in 0.3.36."""
    return b"AMX_INT8 = 1" in llama_cpp.llama_print_system_info()


# --- models ---------------------------------------------------------------------------------


class Model:
    """A GGUF model in memory (mapped), closed by `with`.

    Args:
        path: the GGUF file.
        threads: CPU threads for decoding.
        gpus: 0 keeps the model on the CPU; more puts all its layers on GPUs.
        vocab_only: load the tokenizer alone.
        tokens_per_graph: llama.cpp's micro-batch; results depend on it in their last digits.

    Raises:
        QuernError: llama.cpp cannot load the file (its own reason is quoted), or a GPU is asked
            for and llama.cpp can use none.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 1,
        gpus: int = 0,
        vocab_only: bool = False,
        tokens_per_graph: int | None = None,
    ):
        _start()
        self.path, self.threads, self.gpus = Path(path), threads, gpus
        self.tokens_per_graph = tokens_per_graph or TOKENS_PER_UBATCH
        self._running = set()
        if not self.path.is_file():
            raise QuernError(f"model {path} does not exist.")
        params = llama_cpp.llama_model_default_params()
        if gpus and not llama_cpp.llama_supports_gpu_offload():
            raise QuernError(
                "a GPU is asked for, but llama.cpp finds none; build llama-cpp-python for it (see "
                "the README) or set the rule's gpu resource to 0."
            )
        params.n_gpu_layers = -1 if gpus else 0
        params.vocab_only = vocab_only
        if _cpu_reports_amx():
            params.use_extra_bufts = False
            log.info("this CPU has AMX, which crashes llama.cpp: extra buffer types are off")
        _recent.clear()
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        if not self._model:
            raise QuernError(f"llama.cpp cannot load the model {path}: {_complaint()}")
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

    def with_bos(self, windows: np.ndarray) -> np.ndarray:
        """`windows` with the first token of each replaced by BOS, where the model adds one."""
        if self.add_bos:
            windows = windows.copy()
            windows[:, 0] = self.bos
        return windows

    def windows_per_decode(self, n_ctx: int, scored: int) -> int:
        """How many windows of `n_ctx` tokens, `scored` of them with logits, one decode takes."""
        by_logits = LOGITS_BYTES // max(1, scored * self.n_vocab * 4)
        return int(max(1, min(TOKENS_PER_BATCH // n_ctx, by_logits)))

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
        n, n_ctx = windows.shape
        together = min(n, self.windows_per_decode(n_ctx, last - first))
        whole = (last - first) * self.n_vocab * 4 <= LOGITS_BYTES

        def stream(starts, threads):
            with _Context(self, n_ctx, together, threads=threads) as context:
                for start in starts:
                    some = windows[start : start + together]
                    for i, position, rows in context.logits(some, first, last):
                        yield start + i, position, rows
                    yield END

        return self._in_turns(stream, range(0, n, together), n_ctx, whole)

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
        n, n_ctx = windows.shape
        # One graph per decode call, or one window: then rows come in the order of positions.
        together = max(1, min(n, self.tokens_per_graph // n_ctx))
        together = min(together, self.windows_per_decode(n_ctx, last - first))

        def stream(starts, threads):
            tap = _OutputTap(logits=with_logits)
            with _Context(self, n_ctx, together, tap, threads=threads) as context:
                context.probe(windows[:1][0, 0])
                tap.learned()
                for start in starts:
                    some = windows[start : start + together]
                    for begin, end in context.parts(some, first, last):
                        hidden = tap.take()
                        low, high = max(first, begin), min(last, end)
                        if low >= high:
                            continue
                        rows = [None] * len(some)
                        if with_logits and end == last:
                            rows = np.split(context.outputs(len(some) * (high - low)), len(some))
                        for i, mine in enumerate(np.split(hidden, len(some))):
                            yield start + i, low, mine, rows[i]
                    yield END

        return self._in_turns(stream, range(0, n, together), n_ctx, not with_logits)

    def activations(
        self,
        windows: np.ndarray,
        wanted: Callable[[str], bool],
        collect: Callable[[int, "Product"], None],
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
            tap = _Tap(wanted, collect)
            with _Context(self, n_ctx, 1, tap, self.tokens_per_graph, threads) as context:
                context.probe(windows[:1][0, 0])
                tap.learned()
                for i in numbers:
                    tap.window = i
                    # Every position asks for logits: otherwise the last layer's rows are pruned.
                    for _ in context.parts(windows[i : i + 1], 0, n_ctx):
                        tap.end_of_graph()
                    yield i
                    yield END

        return self._in_turns(stream, range(len(windows)), n_ctx, True)

    def _in_turns(self, stream, groups: range, n_ctx: int, fits: bool) -> Iterator:
        """The items of `stream(groups, threads)`, from two contexts at once where that is faster.

        Two with half of the threads each wait less for each other's threads than one with all. It
        is not done where logits do not fit (`fits`) or windows are long, for want of memory, nor
        for larger models, whose weights would be read twice as often.
        """
        small = llama_cpp.llama_model_size(self._model) <= SMALL_MODEL and not self.gpus
        two = small and fits and n_ctx <= TOKENS_PER_BATCH and len(groups) > 1
        count = 2 if two and self.threads % 2 == 0 else 1
        streams = [stream(groups[k::count], self.threads // count) for k in range(count)]
        running = InTurns(streams, len(groups))
        self._running.add(running)
        try:
            yield from running
        finally:
            running.close()
            self._running.discard(running)


class _Context:
    """A llama_context for `n_seq` windows of `n_ctx` tokens side by side.

    A window alone may be decoded in parts of at most `width` tokens, and its scored positions in
    parts whose logits stay within LOGITS_BYTES.
    """

    def __init__(
        self,
        model: Model,
        n_ctx: int,
        n_seq: int,
        tap: "_Tap | _OutputTap | None" = None,
        width: int = TOKENS_PER_BATCH,
        threads: int = 1,
    ):
        self.model, self.n_ctx, self.n_seq, self._tap = model, n_ctx, n_seq, tap
        self._width = n_ctx if n_seq > 1 else min(n_ctx, width)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = n_ctx * n_seq
        params.n_seq_max = n_seq
        params.n_batch = self._width * n_seq
        params.n_ubatch = min(model.tokens_per_graph, params.n_batch)
        params.n_threads = params.n_threads_batch = threads
        params.no_perf = True
        params.offload_kqv = params.op_offload = bool(model.gpus)
        if tap:
            params.cb_eval, params.abort_callback = tap.callback, tap.abort
        _recent.clear()
        self._ctx = llama_cpp.llama_init_from_model(model._model, params)
        if not self._ctx:
            raise QuernError(
                f"llama.cpp cannot make a context of {n_seq} × {n_ctx} tokens for {model.path}: "
                f"{_complaint()}"
            )
        self._memory = llama_cpp.llama_get_memory(self._ctx)
        self._batch = llama_cpp.llama_batch_init(params.n_batch, 0, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self._ctx)

    def probe(self, token: int) -> None:
        """Decode one token, for a tap to see the graph."""
        self._decode(np.array([[token]]), 0, 0, 1)

    def parts(self, windows: np.ndarray, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Decode windows from an empty memory; yield the positions begin, end of each part."""
        if self._memory:
            llama_cpp.llama_memory_clear(self._memory, True)
        scored = max(1, LOGITS_BYTES // (self.model.n_vocab * 4))
        one_by_one = self.n_seq == 1 and last - first > scored
        if self._tap and self._tap.discards_logits and self.n_ctx <= self._width:
            one_by_one = False  # a graph that is left early writes no logits
        scored = -(-(last - first) // -(-(last - first) // scored))  # parts of equal length
        begin = 0
        while begin < last:
            end = min(begin + self._width, last)
            if one_by_one:  # first the positions that ask for no logits, then a few at a time
                end = min(end, first) if begin < first else min(end, begin + scored)
            if self._tap:
                self._tap.at_end = end == last
            self._decode(windows[:, begin:end], begin, first, last)
            yield begin, end
            begin = end

    def logits(self, windows, first, last) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield (window, position, logits [k, n_vocab]) for positions `first` to `last` - 1."""
        for begin, end in self.parts(windows, first, last):
            low, high = max(first, begin), min(last, end)
            if low < high:
                logits = self.outputs(len(windows) * (high - low))
                for i, rows in enumerate(np.split(logits, len(windows))):
                    yield i, low, rows

    def _decode(self, tokens, begin, first, last):
        n, width = tokens.shape
        batch = self._batch
        batch.n_tokens = tokens.size
        position = np.tile(np.arange(begin, begin + width, dtype=np.int32), n)
        _fill(batch.token, np.ascontiguousarray(tokens, np.int32))
        _fill(batch.pos, position)
        _fill(batch.n_seq_id, np.ones(tokens.size, np.int32))
        _fill(batch.logits, ((position >= first) & (position < last)).astype(np.int8))
        for i in range(tokens.size):
            batch.seq_id[i][0] = i // width
        _recent.clear()
        status = llama_cpp.llama_decode(self._ctx, batch)
        if status != 0 and not (self._tap and self._tap.aborted):
            raise QuernError(
                f"llama.cpp failed to decode with {self.model.path} (status {status}): "
                f"{_complaint()}"
            )

    def outputs(self, rows: int) -> np.ndarray:
        """The logits of the last decode call, float32 [rows, n_vocab], a view."""
        pointer = llama_cpp.llama_get_logits(self._ctx)
        return np.ctypeslib.as_array(pointer, (rows, self.model.n_vocab))


def _fill(pointer, values: np.ndarray) -> None:
    ctypes.memmove(pointer, values.ctypes.data, values.nbytes)


# --- activations ----------------------------------------------------------------------------


class _Tensor(ctypes.Structure):
    """struct ggml_tensor of ggml.h; its size is checked against the library's before use."""


_Tensor._fields_ = [
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * 4),
    ("nb", ctypes.c_size_t * 4),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * 16),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(_Tensor) * 10),
    ("view_src", ctypes.c_void_p),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * 64),
    ("extra", ctypes.c_void_p),
    ("padding", ctypes.c_char * 8),
]
_OBJECT_SIZE = 32  # sizeof(struct ggml_object), the rest of ggml_tensor_overhead()
_F32 = 0


class Product:
    """One matrix product as it is computed: a weight's name, its inputs, its experts.

    Attributes:
        name: the weight's name, such as `blk.0.attn_q.weight`.
        key: equal for products that share one input of one graph.
        matrices: number of matrices the weight stacks (1 for most).
        experts: the same where tokens choose among them, 0 for a plain product.
    """

    def __init__(self, name: str, graph: int, tensor: _Tensor):
        self._source, self._tensor = tensor.src[1], tensor
        self.name, self.key = name, (graph, ctypes.addressof(self._source.contents))
        weight = tensor.src[0].contents
        self.matrices = weight.ne[2] * weight.ne[3]
        self.experts = self.matrices if tensor.src[2] else 0

    def inputs(self) -> np.ndarray:
        """Input rows, float32 [n2, n1, columns] (n2 = tokens where there are experts)."""
        source = self._source.contents
        raw, (columns, n1, n2, n3) = _bytes_of(self._source), source.ne
        return np.lib.stride_tricks.as_strided(
            raw[:4].view(np.float32), (n3 * n2, n1, columns), (source.nb[2], source.nb[1], 4)
        )

    def expert_ids(self) -> np.ndarray:
        """The experts each token uses, int32 [tokens, used]."""
        ids = self._tensor.src[2].contents
        raw = _bytes_of(self._tensor.src[2])
        return np.lib.stride_tricks.as_strided(
            raw[:4].view(np.int32), (ids.ne[1], ids.ne[0]), (ids.nb[1], ids.nb[0])
        )


def _check_layout() -> None:
    """Refuse a llama.cpp whose tensors are laid out otherwise than `_Tensor`."""
    if _ggml_base().ggml_tensor_overhead() != ctypes.sizeof(_Tensor) + _OBJECT_SIZE:
        raise QuernError(
            f"llama-cpp-python {VERSION} lays out its tensors in a way that Quern does not know; "
            "install the version that requirements.txt names."
        )


def _weight_name(product: _Tensor) -> str:
    """The name of the weight in a matrix product."""
    name = product.src[0].contents.name.decode()
    # Backends that copy a weight name it `CUDA0#blk.0.attn_q.weight#0`.
    return name.split("#")[1] if "#" in name else name


def _bytes_of(pointer) -> np.ndarray:
    """A tensor's bytes: a view of host memory, or a copy from the device."""
    lib, tensor = _ggml_base(), pointer.contents
    size = lib.ggml_nbytes(pointer)
    if tensor.buffer is None or lib.ggml_backend_buffer_is_host(tensor.buffer):
        return np.ctypeslib.as_array(
            ctypes.cast(tensor.data, ctypes.POINTER(ctypes.c_uint8)), (size,)
        )
    copy = np.empty(size, np.uint8)
    lib.ggml_backend_tensor_get(pointer, copy.ctypes.data, 0, size)
    return copy


class _Tap:
    """The cb_eval callback: asked about each tensor, shown the wanted ones, stops after the last.

    A probe tells which product is the last. The last graph of a window is aborted after it, so
    that llama.cpp copies no logits, which nobody computed; abort also makes it forget the tokens
    of that graph, so the graphs before are only stopped. An exception raised while collecting is
    kept and raised again outside llama.cpp.
    """

    def __init__(self, wanted: Callable[[str], bool], collect: Callable[[int, Product], None]):
        lib = _ggml_base()
        _check_layout()
        self._op_name = functools.cache(lambda op: lib.ggml_op_name(op).decode())
        self._wanted, self._collect = functools.cache(wanted), collect
        self._last = self._seen = self._error = None
        self._graph = self.window = 0
        self.discards_logits = self.at_end = self.aborted = False
        self.callback = llama_cpp.ggml_backend_sched_eval_callback(self._on_tensor)
        self.abort = llama_cpp.ggml_abort_callback(lambda _: self.aborted)
        _keep.extend([self.callback, self.abort])

    def learned(self) -> None:
        """The graph just computed was the probe."""
        self._last = self._seen
        self.discards_logits = self._last not in _OutputTap.WEIGHTS
        self.end_of_graph()

    def end_of_graph(self) -> None:
        """Raise what went wrong during the graph just computed; make ready for the next."""
        if self._error:
            raise self._error
        if self._seen is None:
            raise QuernError("the model computes no matrix product of the wanted weights.")
        self._seen, self.aborted = None, False
        _muted.discard(threading.get_ident())
        self._graph += 1

    def _name(self, tensor: _Tensor) -> str | None:
        """The weight's name if this tensor is a product to be collected."""
        op = self._op_name(tensor.op)
        if op not in ("MUL_MAT", "MUL_MAT_ID"):
            return None
        name = _weight_name(tensor)
        source = tensor.src[1].contents
        # llama-imatrix leaves out products of fewer than 16 rows; so do we.
        few = self._last and op == "MUL_MAT" and source.ne[1] < 16
        return name if not few and source.type == _F32 and self._wanted(name) else None

    def _on_tensor(self, address, ask, _):
        try:
            if self.aborted:  # one more tensor, for llama.cpp to ask whether to abort; then stop
                return bool(ask)
            tensor = ctypes.cast(address, ctypes.POINTER(_Tensor)).contents
            name = self._name(tensor)
            if self._last is None:
                self._seen = name or self._seen
                return False
            if ask:
                return name is not None
            self._collect(self.window, Product(name, self._graph, tensor))
            self._seen = name
            if name == self._last and self.at_end:
                self.aborted = True
                _muted.add(threading.get_ident())
                return True
            return name != self._last
        except BaseException as error:  # ctypes would print it and go on
            self._error = error
            return False


class _OutputTap:
    """A cb_eval callback that keeps what enters the output matrix, and stops there.

    A probe tells the name of the tensor before the product. With `logits`, the last graph of each
    window runs to its end.
    """

    WEIGHTS = ("output.weight", "token_embd.weight")
    discards_logits = aborted = False
    abort = llama_cpp.ggml_abort_callback()  # none: the next tensor is the large product

    def __init__(self, *, logits: bool):
        self._op_name = functools.cache(lambda op: _ggml_base().ggml_op_name(op).decode())
        self._logits, self._rows, self._error = logits, [], None
        self._input_name, self._names = None, Counter()
        self._probing, self.at_end = True, False
        _check_layout()
        self.callback = llama_cpp.ggml_backend_sched_eval_callback(self._on_tensor)
        _keep.append(self.callback)

    def learned(self) -> None:
        """The graph just computed was the probe.

        Raises:
            QuernError: it has no product with the output matrix.
        """
        if self._error:
            raise self._error
        if self._input_name is None:
            raise QuernError("the model computes no product with its output matrix.")
        self._probing = False

    def take(self) -> np.ndarray:
        """The rows of the graphs computed since the last call, float32 [k, n_embd].

        Raises:
            QuernError: something went wrong meanwhile, or there was no product.
        """
        if self._error:
            raise self._error
        rows, self._rows = self._rows, []
        return np.concatenate(rows) if rows else np.empty((0, 0), np.float32)

    def _is_product(self, tensor: _Tensor) -> bool:
        if self._op_name(tensor.op) != "MUL_MAT":
            return False
        return _weight_name(tensor) in self.WEIGHTS

    def _on_tensor(self, address, ask, _):
        try:
            tensor = ctypes.cast(address, ctypes.POINTER(_Tensor)).contents
            if self._probing:
                self._names[tensor.name] += 1
                if self._is_product(tensor):
                    self._input_name = tensor.src[1].contents.name
                return False
            # A name that occurs twice tells nothing: then every graph runs to its end.
            known = self._names[self._input_name] == 1
            if ask:
                return tensor.name == self._input_name if known else self._is_product(tensor)
            self._keep(ctypes.pointer(tensor) if known else tensor.src[1])
            return not known or (self._logits and self.at_end)
        except BaseException as error:  # ctypes would print it and go on
            self._error = error
            return False

    def _keep(self, pointer):
        tensor = pointer.contents
        if tensor.type != _F32:
            raise QuernError("what enters the output matrix is not float32.")
        rows = np.lib.stride_tricks.as_strided(
            _bytes_of(pointer)[:4].view(np.float32),
            (tensor.ne[1], tensor.ne[0]),
            (tensor.nb[1], 4),
        )
        self._rows.append(rows.copy())


# --- quantization ---------------------------------------------------------------------------


def _enum(prefix: str) -> dict[str, int]:
    return {
        name.removeprefix(prefix): value
        for name, value in vars(llama_cpp).items()
        if name.startswith(prefix) and isinstance(value, int)
    }


@functools.cache
def quantization_types() -> dict[str, int]:
    """llama_ftype by the name `llama-quantize` gives it (`Q4_K_M`)."""
    types = {"F32": llama_cpp.LLAMA_FTYPE_ALL_F32} | _enum("LLAMA_FTYPE_MOSTLY_")
    return types | {alias: types[f"{alias}_M"] for alias in ("Q3_K", "Q4_K", "Q5_K")}


@functools.cache
def tensor_types() -> dict[str, int]:
    """ggml_type by its name in capitals (`Q6_K`)."""
    lib = _ggml_base()
    names = {i: lib.ggml_type_name(i) for i in range(_enum("GGML_TYPE_")["COUNT"])}
    return {name.decode().upper(): i for i, name in names.items() if name}


def quantize(
    model: Path,
    output: Path,
    kind: str,
    *,
    threads: int = 1,
    importances: dict[str, np.ndarray] | None = None,
    metadata: dict[str, str | int] | None = None,
    pure: bool = False,
    output_type: str | None = None,
    token_embedding_type: str | None = None,
    tensor_overrides: list[tuple[str, str]] = (),
    allow_requantize: bool = False,
) -> None:
    """Write `model` quantized to `kind`, through llama_model_quantize.

    Args:
        kind: a name of `quantization_types()`.
        importances: mean squared input per weight, float32 [rows of experts × columns].
        metadata: keys added to the GGUF (strings up to 127 bytes, integers).
        pure: the same type for all tensors.
        output_type, token_embedding_type: names of `tensor_types()`.
        tensor_overrides: (regular expression on the tensor's name, type), first match wins.

    Raises:
        QuernError: llama.cpp refuses; its own reason is quoted.
    """
    _start()
    params = llama_cpp.llama_model_quantize_default_params()
    params.nthread, params.ftype = threads, quantization_types()[kind]
    params.pure, params.allow_requantize = pure, allow_requantize
    if output_type:
        params.output_tensor_type = tensor_types()[output_type]
    if token_embedding_type:
        params.token_embedding_type = tensor_types()[token_embedding_type]
    if importances:
        arrays = [(n.encode(), np.ascontiguousarray(a, np.float32)) for n, a in importances.items()]
        data = (llama_cpp.llama_model_imatrix_data * (len(arrays) + 1))()
        for entry, (name, array) in zip(data, arrays, strict=False):
            entry.name, entry.size = name, array.size
            entry.data = array.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        params.imatrix = data
    if tensor_overrides:
        types = (llama_cpp.llama_model_tensor_override * (len(tensor_overrides) + 1))()
        for entry, (pattern, name) in zip(types, tensor_overrides, strict=False):
            entry.pattern, entry.type = pattern.encode(), tensor_types()[name]
        params.tt_overrides = types
    if metadata:
        params.kv_overrides = _metadata(metadata)
    _recent.clear()
    status = llama_cpp.llama_model_quantize(
        str(model).encode(), str(output).encode(), ctypes.byref(params)
    )
    if status != 0:
        raise QuernError(f"llama.cpp cannot quantize {model} to {kind}: {_complaint()}")


def _metadata(pairs: dict[str, str | int]):
    entries = (llama_cpp.llama_model_kv_override * (len(pairs) + 1))()
    for entry, (key, value) in zip(entries, pairs.items(), strict=False):
        entry.key = key.encode()
        if isinstance(value, str):
            entry.tag = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_STR
            entry.value.val_str = value.encode()[:127]
        else:
            entry.tag = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_INT
            entry.value.val_i64 = value
    return entries


# --- single tensors -------------------------------------------------------------------------


def block_size(kind: str) -> tuple[int, int]:
    """Weights and bytes of a block of a tensor type.

    Raises:
        QuernError: ggml knows no such type.
    """
    if kind not in tensor_types():
        raise QuernError(f"ggml knows no tensor type {kind}.")
    lib, number = _ggml_base(), tensor_types()[kind]
    return int(lib.ggml_blck_size(number)), int(lib.ggml_type_size(number))


def quantize_rows(
    kind: str, values: np.ndarray, importances: np.ndarray | None = None
) -> np.ndarray:
    """Quantize rows with ggml_quantize_chunk.

    Args:
        kind: a name of `tensor_types()`.
        values: float32 [rows, columns].
        importances: float32 [columns], weights of the squared errors.

    Returns:
        The rows' bytes, uint8 [rows, bytes of a row].

    Raises:
        QuernError: the shapes do not fit, or the type needs importances.
    """
    weights, size = block_size(kind)
    values = np.ascontiguousarray(values, np.float32)
    if values.ndim != 2 or values.size == 0 or values.shape[1] % weights:
        raise QuernError(f"rows of shape {values.shape} are no whole blocks of {kind}.")
    if importances is not None:
        importances = np.ascontiguousarray(importances, np.float32)
        if importances.shape != values.shape[1:]:
            raise QuernError(
                f"{importances.size} importances do not fit rows of {values.shape[1]} weights."
            )
    lib, number = _ggml_base(), tensor_types()[kind]
    if importances is None and lib.ggml_quantize_requires_imatrix(number):
        raise QuernError(f"{kind} needs importances.")
    rows, columns = values.shape
    out = np.empty((rows, columns // weights * size), np.uint8)
    written = lib.ggml_quantize_chunk(
        number,
        values.ctypes.data,
        out.ctypes.data,
        0,
        rows,
        columns,
        None if importances is None else importances.ctypes.data,
    )
    if written != out.nbytes:
        raise QuernError(f"ggml wrote {written} bytes of {kind} instead of {out.nbytes}.")
    return out


def dequantize_rows(kind: str, raw: np.ndarray) -> np.ndarray:
    """Values of quantized rows, as ggml computes them.

    Args:
        kind: a name of `tensor_types()`.
        raw: uint8 [rows, bytes of a row].

    Returns:
        float32 [rows, columns].

    Raises:
        QuernError: the bytes are no whole blocks, or ggml cannot widen the type.
    """
    weights, size = block_size(kind)
    raw = np.ascontiguousarray(raw, np.uint8)
    if raw.ndim != 2 or raw.size == 0 or raw.shape[1] % size:
        raise QuernError(f"bytes of shape {raw.shape} are no whole blocks of {kind}.")
    traits = _ggml_base().ggml_get_type_traits(tensor_types()[kind]).contents
    if (traits.blck_size, traits.type_size) != (weights, size) or not traits.to_float:
        raise QuernError(f"llama-cpp-python {VERSION} offers no way to widen {kind}.")
    out = np.empty((len(raw), raw.shape[1] // size * weights), np.float32)
    traits.to_float(raw.ctypes.data, out.ctypes.data, out.size)
    return out
