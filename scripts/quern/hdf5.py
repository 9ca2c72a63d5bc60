"""HDF5 files, written whole or not at all."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from . import files


class _Watched:
    """A file for h5py to write that remembers what went wrong.

    HDF5 keeps data back and drops errors when it writes them while it closes a file. So whoever
    closes it asks here.
    """

    def __init__(self, path: Path):
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        self._at, self.error = 0, None

    def close(self) -> None:
        os.close(self._fd)

    def _kept(self, function, *arguments):
        try:
            return function(*arguments)
        except OSError as error:
            self.error = self.error or error
            raise

    def write(self, data) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        while left:
            written = self._kept(os.pwrite, self._fd, left, self._at)
            self._at, left = self._at + written, left[written:]
        return size

    def readinto(self, buffer) -> int:
        count = self._kept(os.preadv, self._fd, [buffer], self._at)
        self._at += count
        return count

    def read(self, size: int = -1) -> bytes:
        raise NotImplementedError  # h5py knows a file by this method, and calls readinto

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self._at, os.fstat(self._fd).st_size)[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def truncate(self, size: int | None = None) -> int:
        size = self._at if size is None else size
        self._kept(os.ftruncate, self._fd, size)
        return size

    def flush(self) -> None:
        self._kept(os.fsync, self._fd)


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
                yield h5
        except Exception:
            if raw.error:
                raise raw.error from None
            raise
        finally:
            raw.close()
        if raw.error:
            raise raw.error
        with h5py.File(temporary, locking=False):  # opens, or is not whole
            pass
