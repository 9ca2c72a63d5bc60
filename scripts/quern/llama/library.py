"""llama.cpp itself: its log, its start, the functions of ggml that are used.

Sources: include/llama.h and ggml/include/ggml.h of the llama.cpp in llama-cpp-python 0.3.36.
"""

import contextlib
import ctypes
import functools
import hashlib
import importlib.metadata
import logging
import os
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path

# Threads that wait spin by default; with anything else running, that made a decode 8 times slower.
# Some 10 µs of it save 7 % where the cores are free and cost as much where they are not.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "5000")

import llama_cpp
from llama_cpp import _ctypes_extensions

from .. import QuernError, files

log = logging.getLogger("quern.llama")
_own_log = log.getChild("cpp")  # what llama.cpp itself says

VERSION = importlib.metadata.version("llama-cpp-python")
# llama-cpp-python loads llama.cpp from here.
FOLDER = Path(os.environ.get("LLAMA_CPP_LIB_PATH") or Path(llama_cpp.__file__).parent / "lib")

WARN, ERROR = 3, 4  # ggml_log_level of ggml.h
recent = deque(maxlen=20)  # what llama.cpp said last, for error messages
_listeners: list[tuple[list[str], int | None]] = []
muted = set()  # threads that aborted a graph on purpose, which llama.cpp reports as an error


@llama_cpp.llama_log_callback
def _on_log(level, text, _):
    said = text.decode("utf-8", "replace")
    for heard, only in _listeners:
        if only in (None, level):
            heard.append(said)
    line = said.rstrip()
    if line.strip(".") and threading.get_ident() not in muted:
        recent.append((level, line))
        level = {WARN: logging.WARNING, ERROR: logging.ERROR}.get(level, logging.INFO)
        _own_log.log(level, "%s", line)


@functools.cache
def start() -> None:
    """Take llama.cpp's log and let it set itself up; once a process."""
    llama_cpp.llama_log_set(_on_log, None)
    llama_cpp.llama_backend_init()


def complaint() -> str:
    """llama.cpp's first error since `recent` was cleared, which is the cause; or its last line."""
    errors = [line for level, line in recent if level == ERROR]
    lines = errors[:1] or [line for _, line in recent][-1:]
    words = [word for word in " ".join(lines).split() if word.strip("=")]
    return " ".join(words) or "no reason given"


@contextlib.contextmanager
def listening(only: int | None = None) -> Iterator[list[str]]:
    """What llama.cpp says within the block, in pieces: all, or at one level of its log."""
    heard: list[str] = []
    listener = heard, only
    _listeners.append(listener)
    try:
        yield heard
    finally:
        _listeners.remove(listener)


@functools.cache
def build() -> str:
    """The version of llama-cpp-python and a hash of the libraries it loads: `0.3.36+1a2b3c4d`.

    One version may be built for a CPU, for CUDA, or with other options, and each computes other
    last digits.
    """
    digest = hashlib.sha256()
    for path in sorted(FOLDER.iterdir()):
        if path.suffix in (".so", ".dylib", ".dll") and "mtmd" not in path.name:
            digest.update(f"{path.name} {files.sha256(path)}\n".encode())
    return f"{VERSION}+{digest.hexdigest()[:8]}"


def computed_by(gpus: int = 0) -> str:
    """What computes, as results record it: the build, and `CPU` or the kinds of the GPUs."""
    kinds = devices() if gpus else ["CPU"]
    return f"{build()} on {', '.join(kinds)}"


def devices() -> list[str]:
    """The kinds of GPUs of this machine, as ggml calls them, each once."""
    name = _ggml().ggml_backend_dev_description
    return sorted({name(handle).decode() for handle, kind in _devices() if kind in _GPU_TYPES})


# GGML_BACKEND_DEVICE_TYPE_CPU, _GPU and _IGPU of ggml-backend.h.
_CPU_TYPE, _GPU_TYPES = 0, (1, 2)


@functools.cache
def _ggml() -> ctypes.CDLL:
    """libggml, with the signatures of ggml-backend.h used here."""
    start()
    lib = _ctypes_extensions.load_shared_library("ggml", FOLDER)
    for name, result, arguments in (
        ("ggml_backend_dev_count", ctypes.c_size_t, []),
        ("ggml_backend_dev_get", ctypes.c_void_p, [ctypes.c_size_t]),
        ("ggml_backend_dev_description", ctypes.c_char_p, [ctypes.c_void_p]),
        ("ggml_backend_dev_type", ctypes.c_int, [ctypes.c_void_p]),
        ("ggml_backend_dev_buffer_type", ctypes.c_void_p, [ctypes.c_void_p]),
        ("ggml_backend_dev_init", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p]),
        ("ggml_backend_dev_backend_reg", ctypes.c_void_p, [ctypes.c_void_p]),
        ("ggml_backend_reg_get_proc_address", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p]),
        (
            "ggml_backend_dev_memory",
            None,
            [ctypes.c_void_p, *[ctypes.POINTER(ctypes.c_size_t)] * 2],
        ),
    ):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


def _devices() -> list[tuple[int, int]]:
    """ggml's handle of each device of this machine, and its ggml_backend_dev_type."""
    lib = _ggml()
    handles = map(lib.ggml_backend_dev_get, range(lib.ggml_backend_dev_count()))
    return [(handle, lib.ggml_backend_dev_type(handle)) for handle in handles]


def free_on_gpus() -> list[int]:
    """Free bytes of each GPU that ggml sees."""
    return [free_bytes(handle) for handle, kind in _devices() if kind in _GPU_TYPES]


def free_bytes(device: int) -> int:
    """Free bytes of a device."""
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    _ggml().ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
    return free.value


def backend_of(gpu: bool, threads: int) -> int:
    """A ggml_backend on the first GPU or on the CPU, which the caller frees.

    Raises:
        QuernError: there is no such device, or it cannot be used.
    """
    kinds = _GPU_TYPES if gpu else (_CPU_TYPE,)
    device = next((handle for handle, kind in _devices() if kind in kinds), None)
    recent.clear()
    backend = device and _ggml().ggml_backend_dev_init(device, None)
    if not backend:
        raise QuernError(f"ggml cannot use {'a GPU' if gpu else 'the CPU'}: {complaint()}")
    registry = _ggml().ggml_backend_dev_backend_reg(device)
    found = _ggml().ggml_backend_reg_get_proc_address(registry, b"ggml_backend_set_n_threads")
    if found:
        ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)(found)(backend, threads)
    return backend


class _Override(ctypes.Structure):
    """struct llama_model_tensor_buft_override of llama.h."""

    _fields_ = (("pattern", ctypes.c_char_p), ("buft", ctypes.c_void_p))


def cpu_buffers(patterns: list[str]) -> ctypes.Array:
    """llama.cpp's list of tensors, by pattern of their name, that stay in the CPU's memory."""
    cpu = next(handle for handle, kind in _devices() if kind == _CPU_TYPE)
    kept = _ggml().ggml_backend_dev_buffer_type(cpu)
    entries = [_Override(pattern.encode(), kept) for pattern in patterns]
    return (_Override * (len(entries) + 1))(*entries)  # the last one stays empty and ends it


class TypeTraits(ctypes.Structure):
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


class InitParams(ctypes.Structure):
    """struct ggml_init_params of ggml.h."""

    _fields_ = (
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    )


@functools.cache
def ggml_base() -> ctypes.CDLL:
    """libggml-base, with the signatures used here."""
    lib = _ctypes_extensions.load_shared_library("ggml-base", FOLDER)
    for name, result, arguments in (
        ("ggml_op_name", ctypes.c_char_p, [ctypes.c_int]),
        ("ggml_type_name", ctypes.c_char_p, [ctypes.c_int]),
        ("ggml_tensor_overhead", ctypes.c_size_t, []),
        ("ggml_nbytes", ctypes.c_size_t, [ctypes.c_void_p]),
        ("ggml_blck_size", ctypes.c_int64, [ctypes.c_int]),
        ("ggml_type_size", ctypes.c_size_t, [ctypes.c_int]),
        ("ggml_get_type_traits", ctypes.POINTER(TypeTraits), [ctypes.c_int]),
        ("ggml_quantize_requires_imatrix", ctypes.c_bool, [ctypes.c_int]),
        (
            "ggml_quantize_chunk",
            ctypes.c_size_t,
            [ctypes.c_int, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3, ctypes.c_void_p],
        ),
        ("ggml_backend_buffer_is_host", ctypes.c_bool, [ctypes.c_void_p]),
        ("ggml_init", ctypes.c_void_p, [InitParams]),
        ("ggml_free", None, [ctypes.c_void_p]),
        (
            "ggml_new_tensor_2d",
            ctypes.c_void_p,
            [ctypes.c_void_p, ctypes.c_int, *[ctypes.c_int64] * 2],
        ),
        ("ggml_mul_mat", ctypes.c_void_p, [ctypes.c_void_p] * 3),
        ("ggml_new_graph", ctypes.c_void_p, [ctypes.c_void_p]),
        ("ggml_build_forward_expand", None, [ctypes.c_void_p] * 2),
        ("ggml_backend_alloc_ctx_tensors", ctypes.c_void_p, [ctypes.c_void_p] * 2),
        ("ggml_backend_graph_compute", ctypes.c_int, [ctypes.c_void_p] * 2),
        ("ggml_backend_buffer_free", None, [ctypes.c_void_p]),
        ("ggml_backend_free", None, [ctypes.c_void_p]),
        ("ggml_backend_graph_plan_create", ctypes.c_void_p, [ctypes.c_void_p] * 2),
        ("ggml_backend_graph_plan_free", None, [ctypes.c_void_p] * 2),
        *(
            (name, None, [*[ctypes.c_void_p] * 2, *[ctypes.c_size_t] * 2])
            for name in ("ggml_backend_tensor_get", "ggml_backend_tensor_set")
        ),
    ):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


def cpu_reports_amx() -> bool:
    """Whether ggml would use AMX, whose matrix product crashes on quantized models in 0.3.36."""
    return b"AMX_INT8 = 1" in llama_cpp.llama_print_system_info()


# --- types ------------------------------------------------------------------------------------


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
    lib = ggml_base()
    known = [i for i in range(_enum("GGML_TYPE_")["COUNT"]) if lib.ggml_blck_size(i)]
    return {lib.ggml_type_name(i).decode().upper(): i for i in known}


@functools.cache
def target_types() -> dict[str, int]:
    """Of `tensor_types` those that weights can be quantized to, or kept in as floats."""
    traits = {n: ggml_base().ggml_get_type_traits(i).contents for n, i in tensor_types().items()}
    return {
        name: tensor_types()[name]
        for name, found in traits.items()
        if name in ("F32", "F16", "BF16") or (found.is_quantized and found.to_float)
    }


def block_size(kind: str) -> tuple[int, int]:
    """Weights and bytes of a block of a tensor type.

    Raises:
        QuernError: ggml knows no such type.
    """
    if kind not in tensor_types():
        raise QuernError(f"ggml knows no tensor type {kind}.")
    lib, number = ggml_base(), tensor_types()[kind]
    return int(lib.ggml_blck_size(number)), int(lib.ggml_type_size(number))
