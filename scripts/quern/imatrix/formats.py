"""Imatrix files, as llama.cpp writes and reads them (tools/imatrix/imatrix.cpp).

A GGUF imatrix has, for each weight, `NAME.in_sum2`, float32 [experts or 1, columns], and
`NAME.counts`, float32 [experts or 1, 1], in tokens. The older `.dat` has means times a number of
windows.
"""

import hashlib
import json
import struct
from pathlib import Path

import gguf
import numpy as np

from .. import QuernError, files, gguf_files
from .matrix import Imatrix

HASH = "quern.sha256"  # of all the rest
CHUNK_SIZE = 512  # tokens in a window of llama-imatrix where nothing else is said


def write(matrix: Imatrix, path: Path) -> None:
    """Write llama.cpp's GGUF imatrix, tensors in order of their names; or `.dat` by ending."""
    with files.replacing(path) as temporary:
        if path.suffix == ".dat":
            _write_dat(matrix, temporary)
        else:
            _write_gguf(matrix, temporary)


def _write_gguf(matrix, path):
    writer = gguf.GGUFWriter(path, arch="")
    writer.add_string("general.type", "imatrix")
    writer.add_array("imatrix.datasets", matrix.datasets)
    writer.add_uint32("imatrix.chunk_count", matrix.chunks)
    writer.add_uint32("imatrix.chunk_size", matrix.chunk_size)
    for key, value in (matrix.extra | {HASH: _digest(matrix, matrix.extra)}).items():
        writer.add_string(key, value)
    for name in sorted(matrix.sums):
        counts = matrix.counts[name].astype(np.float32)[:, None]
        writer.add_tensor(f"{name}.in_sum2", matrix.sums[name].astype(np.float32))
        writer.add_tensor(f"{name}.counts", counts)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_dat(matrix, path):
    # Counts are windows there, one for all experts; values are means times that count.
    with open(path, "wb") as file:
        file.write(struct.pack("<i", len(matrix.sums)))
        for name in sorted(matrix.sums):
            calls = max(1, int(matrix.counts[name].max()) // max(1, matrix.chunk_size))
            counts = np.where(matrix.counts[name] > 0, matrix.counts[name], 1)[:, None]
            values = (matrix.sums[name] / counts * calls).astype("<f4").ravel()
            raw = name.encode()
            file.write(struct.pack("<i", len(raw)) + raw)
            file.write(struct.pack("<ii", calls, values.size) + values.tobytes())
        dataset = (matrix.datasets[0] if matrix.datasets else "").encode()
        file.write(struct.pack("<ii", matrix.chunks, len(dataset)) + dataset)


def read(path: Path, chunk_size: int = CHUNK_SIZE) -> Imatrix:
    """Read llama.cpp's GGUF imatrix, or its older `.dat`.

    Args:
        chunk_size: tokens of a window, which a `.dat` does not say.

    Raises:
        QuernError: it is missing, damaged, no imatrix, or holds values that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise QuernError(f"{path} does not exist.")
    with open(path, "rb") as file:
        is_gguf = file.read(4) == b"GGUF"
    try:
        result, own = _read_gguf(path) if is_gguf else (_read_dat(path, chunk_size), {})
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        # Metadata of another type than it must have, or text that is not UTF-8.
        raise QuernError(f"{path} is damaged: its content makes no sense ({error}).") from None
    try:
        result.require_sense()
    except ValueError as error:
        raise QuernError(f"{path} holds {error}.") from None
    if own and own.pop(HASH, "") != _digest(result, own):
        raise QuernError(f"{path} is damaged: its content is not what was written; delete it.")
    result.extra = own
    if not result.sums:
        raise QuernError(f"{path} holds no importances.")
    return result


def _read_gguf(path):
    reader = gguf_files.open_gguf(path)
    if gguf_files.field(reader, "general.type") != "imatrix":
        raise QuernError(f"{path} is a GGUF file, but not an imatrix.")
    tensors = {t.name: np.array(t.data) for t in reader.tensors}
    result = Imatrix(
        datasets=list(gguf_files.field(reader, "imatrix.datasets", [])),
        chunks=int(gguf_files.field(reader, "imatrix.chunk_count", 0)),
        chunk_size=int(gguf_files.field(reader, "imatrix.chunk_size", 0)),
    )
    for key, sums in tensors.items():
        if not key.endswith(".in_sum2"):
            continue
        name = key.removesuffix(".in_sum2")
        counts = tensors.get(f"{name}.counts")
        if counts is None:
            raise QuernError(f"{path} has sums but no counts for {name}.")
        counts = counts.ravel().astype(np.float64)
        if sums.size == 0 or counts.size == 0 or sums.size % counts.size:
            raise QuernError(f"{path} has {counts.size} counts for {sums.size} sums of {name}.")
        result.add(name, sums.astype(np.float64).reshape(len(counts), -1), counts)
    own = [key for key in reader.header.fields if key.startswith("quern.")]
    return result, {key: gguf_files.field(reader, key) for key in own}


def _digest(matrix: Imatrix, extra: dict[str, str]) -> str:
    """Of all that a GGUF holds of it."""
    facts = [matrix.datasets, matrix.chunks, matrix.chunk_size, extra]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(matrix.sums):
        digest.update(f"{name} {matrix.sums[name].shape}\n".encode())
        for array in (matrix.sums[name], matrix.counts[name]):
            digest.update(np.ascontiguousarray(array, "<f4").data)
    return digest.hexdigest()


def _read_dat(path, chunk_size):
    result, data, at = Imatrix(chunk_size=chunk_size), path.read_bytes(), 0

    def take(n):
        nonlocal at
        at += n
        if n < 0 or at > len(data):
            raise QuernError(f"{path} is no imatrix of llama.cpp, or is cut short.")
        return data[at - n : at]

    def number():
        return struct.unpack("<i", take(4))[0]

    for _ in range(number()):
        name = take(number()).decode("utf-8", "replace")
        calls = number()
        if name in result.sums:
            raise QuernError(f"{path} has {name} twice.")
        values = np.frombuffer(take(4 * number()), "<f4").astype(np.float64)
        # Values are means times a number of windows; in tokens they weigh as a GGUF's do.
        sums, tokens = values[None] * chunk_size, max(calls, 1) * chunk_size
        result.add(name, sums, np.array([tokens]))
    if at < len(data):  # files of before 2024 end here
        result.chunks = number()
        result.datasets = [take(number()).decode("utf-8", "replace")]
    return result
