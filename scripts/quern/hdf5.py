"""HDF5 files, written whole or not at all, and checked when they are read."""

import contextlib
import hashlib
import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path

import h5py

from . import QuernError, files

_SEAL = 2048  # bytes behind the file: JSON with a hash of it
_BLOCK = 1 << 20


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


@contextlib.contextmanager
def writing(path: Path, later: Collection[str] = ()) -> Iterator[h5py.File]:
    """A new HDF5 file that takes its name when the block is done and every byte is on disk.

    Behind it stands a hash of it, since HDF5 itself trusts what it reads, and may not even end.

    Args:
        later: contiguous datasets that are filled once the file is there; the hash leaves them out.

    Raises:
        OSError: something could not be written; the file is not there then.
    """
    with files.replacing(path) as temporary:
        raw = _Watched(temporary)
        try:
            with h5py.File(raw, "w", locking=False) as h5:
                h5.watched = raw
                yield h5
                h5.flush()
                places = [h5[name].id for name in later]
                left_out = sorted((d.get_offset(), d.get_storage_size()) for d in places)
        finally:
            raw.close()
            if raw.error:
                raise raw.error from None
        with open(temporary, "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            seal = {"bytes": size, "left_out": left_out}
            file.write(json.dumps(seal | {"sha256": _digest(file, **seal)}).encode().rjust(_SEAL))


@contextlib.contextmanager
def reading(path: Path, what: str) -> Iterator[h5py.File]:
    """A file that `writing` wrote, checked against its hash before HDF5 opens it.

    Args:
        what: what the file must be, for the sentence.

    Raises:
        QuernError: it is missing or damaged, or the block finds that something in it is missing or
            makes no sense (an error of HDF5, a KeyError, a ValueError, a TypeError).
    """
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _SEAL))
            seal = json.loads(file.read())
            if seal.pop("sha256") != _digest(file, **seal):
                raise ValueError("its content is not what was written")
        with h5py.File(path, "r", locking=False) as h5:
            yield h5
    except FileNotFoundError:
        raise QuernError(f"{path} does not exist.") from None
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        said = "it is cut short" if isinstance(error, json.JSONDecodeError) else error
        raise QuernError(
            f"{path} is damaged, or no {what} ({said}); delete it and run again."
        ) from None


def _digest(file, bytes: int, left_out: list[tuple[int, int]]) -> str:
    """SHA-256 of the first bytes of a file but for some ranges (offset, size), and of those."""
    digest, at = hashlib.sha256(json.dumps([bytes, left_out]).encode()), 0
    for offset, size in [*left_out, (bytes, 0)]:
        file.seek(at)
        while at < offset:
            block = file.read(min(offset - at, _BLOCK))
            if not block:
                raise ValueError("it is cut short")
            digest.update(block)
            at += len(block)
        at = offset + size
    return digest.hexdigest()


def attributes(h5: h5py.File) -> dict:
    """The attributes of a file, as plain values."""
    return {name: v.tolist() if hasattr(v, "tolist") else v for name, v in h5.attrs.items()}


def check(h5: h5py.File) -> None:
    """Raise what went wrong while a file was written, so that no more is computed for it."""
    if h5.watched.error:
        raise h5.watched.error
