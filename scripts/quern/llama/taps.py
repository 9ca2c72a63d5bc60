"""Taps: callbacks on a graph that show tensors while llama.cpp computes them.

llama.cpp asks a tap about every tensor of a graph (`cb_eval`), and computes the graph up to each
tensor that the tap wants to see. A tap that answers `False` to one that it is shown ends the graph.
"""

import ctypes
import functools
import threading
from collections import Counter
from collections.abc import Callable

import llama_cpp
import numpy as np

from .. import QuernError
from .library import VERSION, ggml_base, muted

OUTPUT_WEIGHTS = ("output.weight", "token_embd.weight")  # the latter where the two are tied
_keep = []  # ctypes callbacks must outlive every call that may use them


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
        matrices: number of matrices the weight stacks.
        kind: `plain` (one matrix), `experts` (tokens choose among several) or `heads` (each of
            several has inputs of its own).
    """

    def __init__(self, name: str, graph: int, source, matrices: int = 1, ids=None):
        self._source, self._ids = source, ids  # pointers to tensors
        self.name, self.key = name, (graph, ctypes.addressof(source.contents))
        self.matrices = matrices
        self.kind = "experts" if ids else "heads" if matrices > 1 else "plain"

    def inputs(self) -> np.ndarray:
        """Input rows, float32 [n2, n1, columns] (n2 = tokens where they choose experts)."""
        source = self._source.contents
        raw, (columns, n1, n2, n3) = _bytes_of(self._source), source.ne
        return np.lib.stride_tricks.as_strided(
            raw[:4].view(np.float32), (n3 * n2, n1, columns), (source.nb[2], source.nb[1], 4)
        )

    def expert_ids(self) -> np.ndarray:
        """The experts each token uses, int32 [tokens, used]."""
        ids, raw = self._ids.contents, _bytes_of(self._ids)
        return np.lib.stride_tricks.as_strided(
            raw[:4].view(np.int32), (ids.ne[1], ids.ne[0]), (ids.nb[1], ids.nb[0])
        )


def _check_layout() -> None:
    """Refuse a llama.cpp whose tensors are laid out otherwise than `_Tensor`."""
    if ggml_base().ggml_tensor_overhead() != ctypes.sizeof(_Tensor) + _OBJECT_SIZE:
        raise QuernError(
            f"llama-cpp-python {VERSION} lays out its tensors in a way that Quern does not know; "
            "install the version that requirements.txt names."
        )


def weight_name(product: _Tensor) -> str:
    """The name of the weight in a matrix product."""
    name = product.src[0].contents.name.decode()
    # Backends that copy a weight name it `CUDA0#blk.0.attn_q.weight#0`.
    return name.split("#")[1] if "#" in name else name


def _bytes_of(pointer) -> np.ndarray:
    """A tensor's bytes: a view of host memory, or a copy from the device."""
    lib, tensor = ggml_base(), pointer.contents
    size = lib.ggml_nbytes(pointer)
    if tensor.buffer is None or lib.ggml_backend_buffer_is_host(tensor.buffer):
        return np.ctypeslib.as_array(
            ctypes.cast(tensor.data, ctypes.POINTER(ctypes.c_uint8)), (size,)
        )
    copy = np.empty(size, np.uint8)
    lib.ggml_backend_tensor_get(pointer, copy.ctypes.data, 0, size)
    return copy


class _Entrance:
    """Finds the tensor that enters the output matrix, by its name.

    A name that occurs twice in a graph does not tell it. Then it is known when its product is.

    Attributes:
        weight: the name of the output matrix; empty until a product with it was seen.
    """

    def __init__(self):
        self.weight, self._name, self._names = "", None, Counter()

    def probe(self, tensor: _Tensor) -> None:
        """Learn from a tensor of the probe."""
        self._names[tensor.name] += 1
        if self._is_product(tensor):
            self.weight, self._name = weight_name(tensor), tensor.src[1].contents.name

    @property
    def by_name(self) -> bool:
        """Whether the graph need not run on to the product."""
        return self._names[self._name] == 1

    def pointer(self, tensor: _Tensor):
        """To the tensor, which is known once `tensor` is computed; None where it is not."""
        if self.by_name:
            return ctypes.pointer(tensor) if tensor.name == self._name else None
        return tensor.src[1] if self._is_product(tensor) else None

    @staticmethod
    def _is_product(tensor):
        return op_name(tensor.op) == "MUL_MAT" and weight_name(tensor) in OUTPUT_WEIGHTS


class Tap:
    """What all taps share: the callback, the probe, and errors that wait until llama.cpp is left.

    The first graph that a tap sees is a probe: nothing of it is shown, and from the names in it the
    tap learns where to stop.

    Attributes:
        callback, abort: for llama.cpp's context.
        at_end: the graph that is computed now is the last of its windows.
        aborted: this graph was aborted on purpose.
        discards_logits: every last graph is left before the logits are copied.
    """

    abort = llama_cpp.ggml_abort_callback()  # none
    at_end = aborted = discards_logits = False

    def __init__(self):
        _check_layout()
        self._probing, self._error = True, None
        self.callback = llama_cpp.ggml_backend_sched_eval_callback(self._on_tensor)
        _keep.append(self.callback)

    def learned(self) -> None:
        """The graph just computed was the probe.

        Raises:
            QuernError: it has no product that the tap is for.
        """
        self._probing = False
        self.raise_error()

    def raise_error(self) -> None:
        """Raise what went wrong inside the callback."""
        if self._error:
            raise self._error

    def _on_tensor(self, address, ask, _):
        try:
            tensor = ctypes.cast(address, ctypes.POINTER(_Tensor)).contents
            if self._probing:
                self._probe(tensor)
                return False
            return self._wants(tensor) if ask else self._see(tensor)
        except BaseException as error:  # ctypes would print it and go on
            self._error = error
            return False

    def _probe(self, tensor: _Tensor) -> None:
        """Learn from a tensor of the probe."""
        raise NotImplementedError

    def _wants(self, tensor: _Tensor) -> bool:
        """Whether a tensor is to be shown, once it is computed."""
        raise NotImplementedError

    def _see(self, tensor: _Tensor) -> bool:
        """Look at a tensor that was computed; say whether the graph goes on."""
        raise NotImplementedError


@functools.cache
def op_name(op: int) -> str:
    """What ggml calls an operation, such as `MUL_MAT`."""
    return ggml_base().ggml_op_name(op).decode()


class InputTap(Tap):
    """Shows the inputs of wanted matrix products, and stops after the last of them.

    The last graph of a window is aborted after it, so that llama.cpp copies no logits, which nobody
    computed. Abort also makes it forget the tokens of that graph, so the graphs before are only
    stopped.

    Args:
        wanted: whether the weight of this name is of interest.
        collect: called with `window` and each `Product`.
    """

    def __init__(self, wanted: Callable[[str], bool], collect: Callable[[int, Product], None]):
        super().__init__()
        self._wanted, self._collect = functools.cache(wanted), collect
        self._last = self._seen = None
        self._graph = self.window = 0
        self._entrance = _Entrance()
        self.abort = llama_cpp.ggml_abort_callback(lambda _: self.aborted)
        _keep.append(self.abort)

    def learned(self) -> None:
        self._last = self._seen
        self.discards_logits = self._entrance.by_name or self._last not in OUTPUT_WEIGHTS
        super().learned()
        self.end_of_graph()

    def end_of_graph(self) -> None:
        """Raise what went wrong during the graph just computed; make ready for the next."""
        self.raise_error()
        if self._seen is None:
            raise QuernError("the model computes no matrix product of the wanted weights.")
        self._seen, self.aborted = None, False
        muted.discard(threading.get_ident())
        self._graph += 1

    def _product(self, tensor: _Tensor) -> Product | None:
        """The product to be collected, if this tensor is one, or all that enters it."""
        if source := self._entrance.pointer(tensor):
            found = Product(self._entrance.weight, self._graph, source)
            rows = source.contents
        elif op_name(tensor.op) in ("MUL_MAT", "MUL_MAT_ID"):
            name, weight = weight_name(tensor), tensor.src[0].contents
            if name == self._entrance.weight and not self._probing:
                return None  # its input was shown
            matrices = weight.ne[2] * weight.ne[3]
            found = Product(name, self._graph, tensor.src[1], matrices, tensor.src[2])
            rows = tensor.src[1].contents
        else:
            return None
        # llama-imatrix leaves out products of fewer than 16 rows; so do we.
        few = self._last and found.kind != "experts" and rows.ne[1] < 16
        return found if not few and rows.type == _F32 and self._wanted(found.name) else None

    def _probe(self, tensor):
        self._entrance.probe(tensor)
        if found := self._product(tensor):
            self._seen = found.name

    def _wants(self, tensor):
        # Once aborted, one more tensor: before it llama.cpp asks whether to abort.
        return self.aborted or self._product(tensor) is not None

    def _see(self, tensor):
        if self.aborted:
            return False
        found = self._product(tensor)
        self._collect(self.window, found)
        self._seen = found.name
        if found.name == self._last and self.at_end:
            self.aborted = True
            muted.add(threading.get_ident())
            return True
        return found.name != self._last


class OutputTap(Tap):
    """Keeps what enters the output matrix, and stops there.

    Args:
        logits: the last graph of each window runs to its end.
    """

    def __init__(self, *, logits: bool):
        super().__init__()
        self._logits, self._rows = logits, []
        self._entrance = _Entrance()
        self.discards_logits = False

    def learned(self) -> None:
        super().learned()
        if not self._entrance.weight:
            raise QuernError("the model computes no product with its output matrix.")

    def take(self) -> np.ndarray:
        """The rows of the graphs computed since the last call, float32 [k, n_embd].

        Raises:
            QuernError: something went wrong meanwhile, or there was no product.
        """
        self.raise_error()
        rows, self._rows = self._rows, []
        return np.concatenate(rows) if rows else np.empty((0, 0), np.float32)

    def _probe(self, tensor):
        self._entrance.probe(tensor)

    def _wants(self, tensor):
        return self._entrance.pointer(tensor) is not None

    def _see(self, tensor):
        self._keep_rows(self._entrance.pointer(tensor))
        return not self._entrance.by_name or (self._logits and self.at_end)

    def _keep_rows(self, pointer):
        tensor = pointer.contents
        if tensor.type != _F32:
            raise QuernError("what enters the output matrix is not float32.")
        rows = np.lib.stride_tricks.as_strided(
            _bytes_of(pointer)[:4].view(np.float32),
            (tensor.ne[1], tensor.ne[0]),
            (tensor.nb[1], 4),
        )
        self._rows.append(rows.copy())
