"""The header of a GGUF file: its metadata, and what it says of its tensors.

Nothing in it is believed: a damaged length or type ends in a sentence and no endless loop. The gguf
package's reader trusts lengths, and takes 21 s and 1 GB for a vocabulary of 262,144 tokens, this
one 0.6 s and 50 MB. Rules use it, so it imports nothing heavy. Source: ggml/include/gguf.h.
"""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from . import QuernError
from .files import POINTER

# How struct reads a number of each type.
_FORMS = dict(zip((*range(8), 10, 11, 12), "BbHhIif?Qqd", strict=True))
_UINT32 = 4
STRING, ARRAY = 8, 9  # numbers of types
_LONGEST_KEY, _LONGEST_NAME, _MOST_DIMENSIONS = 65535, 63, 4
ALIGNMENT = 32  # of tensors' data, where the metadata say nothing
# What else may be called .gguf, by how it begins, and what to do about it.
_OTHER_FILES = {
    b"GGUF\1\0\0\0": "a GGUF of version 1, which llama.cpp reads no more; convert the model again",
    POINTER: "a pointer of git-lfs; run `git lfs pull` to get the file itself",
    b"<": "a web page; download the file itself",
}


class _Damaged(Exception):
    """What is wrong."""


class Field(NamedTuple):
    """A value of the metadata.

    Attributes:
        types: gguf's number of its type, and of its entries where it is an array.
        parts: bytes of the value, or of each entry; of a text without its length.
        order: of the bytes, as struct calls it.
        size: bytes of key and value in the file.
    """

    types: tuple[int, ...]
    parts: list[bytes]
    order: str
    size: int

    def contents(self) -> int | float | bool | str | list:
        """The value.

        Raises:
            UnicodeDecodeError: a text is not UTF-8.
        """
        if self.types[-1] == STRING:
            values = [part.decode() for part in self.parts]
        else:
            form = self.order + _FORMS[self.types[-1]]
            values = [value for (value,) in struct.iter_unpack(form, b"".join(self.parts))]
        return values if self.types[0] == ARRAY else values[0]


class TensorInfo(NamedTuple):
    """What a header says of a tensor.

    Attributes:
        shape: columns, rows, matrices; like ggml, without last dimensions of 1.
        type: ggml's number of its type.
        offset: of its data after `Header.data_offset`, bytes.
    """

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int


@dataclass(frozen=True)
class Header:
    """A header that makes sense by itself; nobody looked at what lies behind it.

    Attributes:
        order: of the bytes, `<` or `>`.
        fields: the metadata by key.
        tensors: in the file's order.
        begin, end: bytes of the file between which it speaks of tensors.
        alignment: of tensors' data, bytes.
    """

    order: str
    fields: dict[str, Field]
    tensors: list[TensorInfo]
    begin: int
    end: int
    alignment: int

    @property
    def data_offset(self) -> int:
        """The byte at which the tensors' data begin."""
        return -(-self.end // self.alignment) * self.alignment

    def get(self, key: str, default=None):
        """A value of the metadata, or `default` where there is none."""
        return self.fields[key].contents() if key in self.fields else default


class _Cursor:
    """Numbers and strings of a header, one after the other."""

    def __init__(self, data):
        self._data, self.at = data, 4
        version = struct.unpack_from("<I", data, 4)[0]
        self.order = "<" if version & 0xFFFF else ">"
        if self.number("I") not in (2, 3):
            raise _Damaged(f"version {version} of the format is unknown")

    def left(self) -> int:
        return len(self._data) - self.at

    def take(self, count: int) -> bytes:
        if count > self.left():
            raise _Damaged("it ends in the middle of its header")
        self.at += count
        return self._data[self.at - count : self.at]

    def number(self, form: str) -> int:
        form = self.order + form
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def string(self) -> bytes:
        return self.take(self.number("Q"))

    def name(self, longest: int) -> str:
        size = self.number("Q")
        if size > longest:
            raise _Damaged(f"a name of {size} bytes")
        return self.take(size).decode()

    def field(self, begin: int) -> Field:
        """The value of a key that begins at `begin`."""
        types, count = (self.number("I"),), 1
        if types[0] == ARRAY:
            types, count = (ARRAY, self.number("I")), self.number("Q")
        kind = types[-1]
        if kind in _FORMS:
            size = struct.calcsize(f"={_FORMS[kind]}")
            raw = self.take(size * count)
            parts = [raw[i : i + size] for i in range(0, len(raw), size)]
        elif kind == STRING and 8 * count <= self.left():
            parts = [self.string() for _ in range(count)]
        elif len(types) > 1:
            raise _Damaged(f"an array of {count} values of type {kind}")
        else:
            raise _Damaged(f"a value of type {kind}")
        return Field(types, parts, self.order, self.at - begin)

    def tensor(self) -> TensorInfo:
        name, dimensions = self.name(_LONGEST_NAME), self.number("I")
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise _Damaged(f"{name} has {dimensions} dimensions")
        shape = [self.number("Q") for _ in range(dimensions)]
        while len(shape) > 1 and shape[-1] == 1:
            shape.pop()
        return TensorInfo(name, tuple(shape), self.number("I"), self.number("Q"))


def read(path: Path) -> Header:
    """The header of a file.

    Raises:
        QuernError: the file is missing, cannot be read, is no GGUF, or its header makes no sense.
    """
    path = Path(path)
    if not path.is_file():
        raise QuernError(f"{path} does not exist.")
    try:
        with open(path, "rb") as file:
            begin = file.read(64)
            for known, said in _OTHER_FILES.items():
                if begin.lstrip().startswith(known):
                    raise QuernError(f"{path} is not a GGUF file that can be read but {said}.")
            if not begin.startswith(b"GGUF"):
                raise QuernError(f"{path} is not a GGUF file.")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _read(_Cursor(data))
    except OSError as error:
        raise QuernError(f"{path} cannot be read: {error.strerror}.") from None
    except (_Damaged, struct.error, ValueError) as error:
        raise damaged(path, error) from None


def damaged(path: Path, why: object) -> QuernError:
    """The sentence on a file that makes no sense."""
    return QuernError(f"{path} is damaged or cut short ({why}).")


def _read(cursor: _Cursor) -> Header:
    tensors, pairs = cursor.number("Q"), cursor.number("Q")
    for count, least in ((tensors, 32), (pairs, 13)):
        if count * least > cursor.left():
            raise _Damaged(f"{count} entries do not fit into it")
    fields = {}
    for _ in range(pairs):
        begin, key = cursor.at, cursor.name(_LONGEST_KEY)
        if key in fields:
            raise _Damaged(f"the key {key} occurs twice")
        fields[key] = cursor.field(begin)
    begin = cursor.at
    found = [cursor.tensor() for _ in range(tensors)]
    if len({tensor.name for tensor in found}) < len(found):
        raise _Damaged("two tensors have one name")
    return Header(cursor.order, fields, found, begin, cursor.at, _alignment(fields))


def _alignment(fields: dict[str, Field]) -> int:
    field = fields.get("general.alignment")
    found = field.contents() if field else ALIGNMENT
    if (field and field.types != (_UINT32,)) or not found or found & (found - 1):
        raise _Damaged(f"an alignment of {found}")
    return found
