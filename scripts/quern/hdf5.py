"""HDF5 files, written whole or not at all, and checked when they are read."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from . import QuernError, files

_SEAL = "attributes_sha256"


class _Watched:
    """A file for h5py to write that keeps errors from HDF5 and remembers the first.

    HDF5 keeps data back, drops errors that come while it closes a file, and crashes after some. So
    it never learns of one: what cannot be written any more stays in memory, until `writing` asks
    what went wrong.
    """

    def __init__(self, path: Path):
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        self._at, self._size, self.error = 0, 0, None
        self._unwritten: list[tuple[int, bytes]] = []

    def close(self) -> None:
        os.close(self._fd)

    def _try(self, function, *arguments) -> int:
        """Call a function of the disk, unless one has failed; what it returns, or -1."""
        if self.error is None:
            try:
                return function(*arguments) or 0
            except OSError as error:
                self.error = error
        return -1

    def write(self, data) -> int:
        left = memoryview(data).cast("B")
        size, at = len(left), self._at
        while left and (written := self._try(os.pwrite, self._fd, left, at)) >= 0:
            at, left = at + written, left[written:]
        if left:
            self._unwritten.append((at, bytes(left)))
        self._at += size
        self._size = max(self._size, self._at)
        return size

    def readinto(self, buffer) -> int:
        view = memoryview(buffer).cast("B")
        view[:] = bytes(len(view))
        os.preadv(self._fd, [view], self._at)
        for at, raw in self._unwritten:
            first, last = max(at, self._at), min(at + len(raw), self._at + len(view))
            if first < last:
                view[first - self._at : last - self._at] = raw[first - at : last - at]
        self._at += len(view)
        return len(view)

    def read(self, size: int = -1) -> bytes:
        raise NotImplementedError  # h5py knows a file by this method, and calls readinto

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = (0, self._at, self._size)[whence] + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def truncate(self, size: int | None = None) -> int:
        self._size = self._at if size is None else size
        self._try(os.ftruncate, self._fd, self._size)
        return self._size

    def flush(self) -> None:
        self._try(os.fsync, self._fd)


def digest(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 of arrays by name, with their dtypes and shapes."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        found.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        found.update(array.data)
    return found.hexdigest()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[h5py.File]:
    """A new HDF5 file that takes its name when the block is done and every byte is on disk.

    Raises:
        OSError: something could not be written; the file is not there then.
    """
    with files.replacing(path) as temporary:
        raw = _Watched(temporary)
        try:
            with h5py.File(raw, "w", locking=False) as h5:
                h5.watched = raw
                yield h5
                h5.attrs[_SEAL] = _attributes_digest(h5)
        finally:
            raw.close()
            if raw.error:
                raise raw.error from None
        with h5py.File(temporary, locking=False):  # opens, or is not whole
            pass


@contextlib.contextmanager
def reading(path: Path, what: str) -> Iterator[h5py.File]:
    """A file that `writing` wrote, its attributes checked; the block checks the arrays.

    Args:
        what: what the file must be, for the sentence.

    Raises:
        QuernError: it is missing or damaged, or the block finds that something in it is missing or
            makes no sense (an error of HDF5, a KeyError, a ValueError, a TypeError).
    """
    try:
        with h5py.File(path, "r", locking=False) as h5:
            if h5.attrs[_SEAL] != _attributes_digest(h5):
                raise ValueError("its attributes are not what was written")
            yield h5
    except FileNotFoundError:
        raise QuernError(f"{path} does not exist.") from None
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise QuernError(
            f"{path} is damaged, or no {what} ({error}); delete it and run again."
        ) from None


def attributes(h5: h5py.File) -> dict:
    """The attributes of a file, as plain values."""
    found = {name: value for name, value in h5.attrs.items() if name != _SEAL}
    return {name: v.tolist() if hasattr(v, "tolist") else v for name, v in found.items()}


def _attributes_digest(h5: h5py.File) -> str:
    text = json.dumps(attributes(h5), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def check(h5: h5py.File) -> None:
    """Raise what went wrong while a file was written, so that no more is computed for it."""
    if h5.watched.error:
        raise h5.watched.error
