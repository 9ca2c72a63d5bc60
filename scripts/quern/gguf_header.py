"""The header of a GGUF file, looked through once before anything relies on it.

The gguf package trusts what it reads: a damaged length or type can make it read for ever, or past
the end. Source: ggml/include/gguf.h.
"""

import math
import mmap
import struct
from pathlib import Path

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from . import QuernError

# How struct reads a number of each type.
_FORMS = dict(zip((*range(8), 10, 11, 12), "BbHhIif?Qqd", strict=True))
_STRING, _ARRAY = 8, 9
_LONGEST_ARRAY = 4096  # of numbers that `settings` gives; one a layer at most
_LONGEST_KEY, _LONGEST_NAME, _MOST_DIMENSIONS = 65535, 63, 4


class _Damaged(Exception):
    """What is wrong."""


class _Header:
    """Numbers and strings of a header, one after the other."""

    def __init__(self, data):
        self._data, self._at = data, 4
        version = struct.unpack_from("<I", data, 4)[0]
        self._order = "<" if version & 0xFFFF else ">"
        if self.number("I") not in (2, 3):
            raise _Damaged(f"version {version} of the format is unknown")

    def left(self) -> int:
        return len(self._data) - self._at

    def skip(self, count: int) -> None:
        if count > self.left():
            raise _Damaged("it ends in the middle of its header")
        self._at += count

    def number(self, form: str) -> int | float | bool:
        form = self._order + form
        size = struct.calcsize(form)
        self.skip(size)
        return struct.unpack_from(form, self._data, self._at - size)[0]

    def string(self, longest: int | None = None) -> bytes:
        size = self.number("Q")
        if longest is not None and size > longest:
            raise _Damaged(f"a name of {size} bytes")
        self.skip(size)
        return self._data[self._at - size : self._at]

    def value(self, kind: int) -> int | float | bool | bytes | list | None:
        """The next value; None for an array of strings, or of very many numbers."""
        if kind in _FORMS:
            return self.number(_FORMS[kind])
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            raise _Damaged(f"a value of type {kind}")
        kind, count = self.number("I"), self.number("Q")
        if kind in _FORMS:
            if count <= _LONGEST_ARRAY:
                return [self.number(_FORMS[kind]) for _ in range(count)]
            self.skip(struct.calcsize(f"={_FORMS[kind]}") * count)
        elif kind == _STRING and 8 * count <= self.left():
            for _ in range(count):
                self.string()
        else:
            raise _Damaged(f"an array of {count} values of type {kind}")
        return None

    def tensor(self) -> bytes:
        name, dimensions = self.string(_LONGEST_NAME), self.number("I")
        what = name.decode("utf-8", "replace")
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise _Damaged(f"{what} has {dimensions} dimensions")
        shape = [self.number("Q") for _ in range(dimensions)]
        kind, offset = self.number("I"), self.number("Q")
        try:
            block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        except (ValueError, KeyError):
            raise _Damaged(f"{what} has the unknown type {kind}") from None
        if not all(shape) or shape[0] % block or offset % 8:
            raise _Damaged(f"{what} has a shape or place that its type does not allow")
        if math.prod(shape) // block * size + offset > len(self._data):
            raise _Damaged(f"{what} reaches beyond the file's end")
        return name


def check(path: Path) -> None:
    """Refuse a file whose header makes no sense.

    Raises:
        QuernError: the sentence says what is wrong.
    """
    _read(path)


def settings(path: Path) -> dict[str, int | float | bool | str | list]:
    """The metadata of a model but for arrays of texts and very long ones, by key.

    The gguf package needs seconds for a vocabulary of 262,144 tokens; this passes over it.

    Raises:
        QuernError: the file cannot be read, is no GGUF, or is damaged.
    """
    try:
        with open(path, "rb") as file:
            if file.read(4) != b"GGUF":
                raise QuernError(f"{path} is not a GGUF file.")
    except OSError as error:
        raise QuernError(f"{path} cannot be read: {error.strerror}.") from None
    return {
        key.decode("utf-8", "replace"): value.decode("utf-8", "replace")
        if isinstance(value, bytes)
        else value
        for key, value in _read(path).items()
        if value is not None
    }


def _read(path: Path) -> dict[bytes, int | float | bool | bytes | list | None]:
    """The metadata by key, as `_Header.value` gives them, of a header that makes sense."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            header = _Header(data)
            tensors, pairs = header.number("Q"), header.number("Q")
            for count, least in ((tensors, 32), (pairs, 13)):
                if count * least > header.left():
                    raise _Damaged(f"{count} entries do not fit into it")
            found = {}
            for _ in range(pairs):
                key = header.string(_LONGEST_KEY)
                if key in found:
                    raise _Damaged(f"the key {key.decode('utf-8', 'replace')} occurs twice")
                found[key] = header.value(header.number("I"))
            names = [header.tensor() for _ in range(tensors)]
            if len(set(names)) < len(names):
                raise _Damaged("two tensors have one name")
            return found
    except (_Damaged, struct.error, ValueError) as error:
        raise QuernError(f"{path} is damaged or cut short ({error}).") from None
