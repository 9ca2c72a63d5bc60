"""An HDF5 file with one row per window, that survives being killed at any moment.

All datasets are allocated whole, contiguously, when the file is made. Afterwards HDF5 writes
nothing: rows go to their places in the file directly, so that every error of the disk is seen where
it occurs and no structure can break. A window counts only once its `done` flag is set, after its
data and its `sha256`. Space that was never written takes no room on a file system with sparse
files.
"""

import fcntl
import hashlib
import logging
import math
import os
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from .. import QuernError, hdf5
from ..stored_rows import StoredRows

log = logging.getLogger("quern.store")

_BLOCK = 1 << 22
_OWN = {"done": ((), np.uint8), "sha256": ((32,), np.uint8)}  # what every store has besides


class StoreInUse(QuernError):
    """Another process is writing the store."""


class _Place(NamedTuple):
    """Where a dataset lies: its first byte, its dtype, the shape of a window's row."""

    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class WindowStore:
    """Rows of windows under fixed names, with attributes that say what they belong to."""

    def __init__(self, path: Path, fd: int, attributes: dict, places: dict[str, _Place], rows: int):
        self.path, self.attributes = path, attributes
        self._fd, self._places, self._n = fd, places, rows

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        """Let go of the file; more than once does no harm."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    @classmethod
    def create(
        cls,
        path: Path,
        rows: int,
        datasets: dict[str, tuple[tuple[int, ...], type]],
        attributes: dict,
    ) -> "WindowStore":
        """Make a store for `rows` windows.

        Args:
            datasets: the shape of a window's row, and its dtype, by name.
        """
        with hdf5.writing(path, datasets | _OWN) as h5:
            h5.attrs.update(attributes)
            for name, (shape, dtype) in (datasets | _OWN).items():
                plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
                plan.set_obj_track_times(False)  # the same results are the same bytes
                plan.set_layout(h5py.h5d.CONTIGUOUS)
                plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
                if name != "done":  # its zeros are never read, so none are written
                    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
                space = h5py.h5s.create_simple((rows, *shape))
                kind = h5py.h5t.py_create(np.dtype(dtype), logical=True)
                h5py.h5d.create(h5.id, name.encode(), kind, space, plan)
        return cls.open(path, writable=True)

    @classmethod
    def open(cls, path: Path, *, writable: bool = False) -> "WindowStore":
        """Open a store.

        Raises:
            QuernError: it is missing, cut short, or not such a store.
        """
        path = Path(path)
        if not path.is_file():
            raise QuernError(f"{path} does not exist.")
        fd = os.open(path, os.O_RDWR if writable else os.O_RDONLY)
        try:
            _lock(fd, path, writable)
            attributes, places, rows = _layout(path)
            if os.fstat(fd).st_size < max(p.offset + rows * p.row_bytes for p in places.values()):
                raise QuernError(f"{path} is damaged or cut short; delete it and run again.")
            store = cls(path, fd, attributes, places, rows)
            if not (writable or np.array_equal(store._flags(), store._hashed())):
                raise QuernError(f"{path} is damaged (its windows' flags); delete it.")
            return store
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def resume(cls, output: Path, expected: dict, rows: int) -> "WindowStore | None":
        """The unfinished store beside `output`, or a finished `output` to be taken up again.

        One of another number of windows is copied into one of `rows`, as far as its windows go.
        Windows that are damaged are not done any more.

        Returns:
            The store, writable, under its unfinished name; None where there is nothing to resume,
            or what was left unfinished is damaged or has other attributes than `expected`.

        Raises:
            QuernError: a finished `output` is damaged or has other attributes, or another process
                is writing the unfinished one.
        """
        partial = partial_path(output)
        if not partial.exists():
            if not output.exists():
                return None
            with cls.open(output) as store:
                store.require(expected)
            os.replace(output, partial)
        try:
            store = cls.open(partial, writable=True)
            store.require(expected)
        except StoreInUse:
            raise
        except QuernError as error:
            log.warning("starting anew: %s", error)
            partial.unlink()
            return None
        for window in np.flatnonzero(store.done):
            if not store.is_whole(window):
                log.warning("%s: window %d is damaged and made anew", partial, window)
                store._put("done", window, b"\0")
        if store._n != rows:
            store = store._resized(rows)
        log.info("%s: %d windows are done already", partial, store.done.sum())
        return store

    @classmethod
    def resume_or_create(
        cls,
        output: Path,
        rows: int,
        datasets: dict[str, tuple[tuple[int, ...], type]],
        attributes: dict,
    ) -> "WindowStore":
        """What `resume` finds, or a new store."""
        found = cls.resume(output, attributes, rows)
        return found or cls.create(partial_path(output), rows, datasets, attributes)

    def _resized(self, rows: int) -> "WindowStore":
        new = WindowStore.create(
            self.path.with_name(f".{self.path.name}.resized"),
            rows,
            {n: (p.shape, p.dtype) for n, p in self._places.items() if n not in _OWN},
            self.attributes,
        )
        with self:
            for window in np.flatnonzero(self.done[:rows]):
                for name in self._places:
                    new._put(name, window, self._get(name, window))
        new.finish(self.path)
        new.close()
        return WindowStore.open(self.path, writable=True)

    def finish(self, output: Path) -> None:
        """Wait until all is on disk, and give the store its final name.

        Just the windows that are done have a hash then, so that a damaged flag is seen.
        """
        for window in np.flatnonzero(self._hashed() & ~self.done):
            self._put("sha256", window, bytes(32))
        os.fsync(self._fd)
        os.replace(self.path, output)

    def require(self, expected: dict) -> None:
        """Check the attributes.

        Raises:
            QuernError: one differs; the sentence names it and both values.
        """
        for name, value in expected.items():
            found = self.attributes.get(name)
            if found != value:
                raise QuernError(
                    f"{self.path} was made with {name} = {found}, not {value}; delete it or "
                    "restore what it was made from."
                )

    @property
    def done(self) -> np.ndarray:
        """Whether each window is complete, bool [rows]."""
        return self._flags() == 1

    def _flags(self) -> np.ndarray:
        """The flag of each window, uint8 [rows]: 1 if it is complete, else 0."""
        return np.frombuffer(os.pread(self._fd, self._n, self._places["done"].offset), np.uint8)

    def _hashed(self) -> np.ndarray:
        """Whether each window has a hash, bool [rows]."""
        raw = os.pread(self._fd, 32 * self._n, self._places["sha256"].offset)
        return np.frombuffer(raw, np.uint8).reshape(self._n, 32).any(axis=1)

    def write(self, window: int, start: int = 0, **arrays: np.ndarray) -> None:
        """Write arrays into a window's rows, from position `start` of each row."""
        for name, array in arrays.items():
            place = self._places[name]
            if np.ndim(array) == 0:
                array = np.full(place.shape, array)
            inner = math.prod(place.shape[1:]) * place.dtype.itemsize
            raw = np.ascontiguousarray(array, place.dtype).data
            if start * inner + raw.nbytes > place.row_bytes:
                raise ValueError(f"{name} of window {window} does not fit its row")
            self._put(name, window, raw, start * inner)

    def commit(self, window: int) -> None:
        """Declare a window complete, after its data is in the file."""
        self._put("sha256", window, self._digest(window))
        self._put("done", window, b"\1")

    def _put(self, name: str, window: int, raw, begin: int = 0) -> None:
        place = self._places[name]
        at, left = place.offset + window * place.row_bytes + begin, memoryview(raw).cast("B")
        while left:
            written = os.pwrite(self._fd, left, at)
            at, left = at + written, left[written:]

    def _get(self, name: str, window: int) -> bytes:
        place = self._places[name]
        return os.pread(self._fd, place.row_bytes, place.offset + window * place.row_bytes)

    def _digest(self, window: int) -> bytes:
        """SHA-256 of a window's number and data."""
        digest = hashlib.sha256(str(window).encode())
        for name in sorted(self._places.keys() - _OWN.keys()):
            place = self._places[name]
            at = place.offset + window * place.row_bytes
            for begin in range(0, place.row_bytes, _BLOCK):
                size = min(_BLOCK, place.row_bytes - begin)
                digest.update(os.pread(self._fd, size, at + begin))
        return digest.digest()

    def is_whole(self, window: int) -> bool:
        """Whether a complete window's data is what was written."""
        return self._digest(window) == self._get("sha256", window)

    def check(self, window: int) -> None:
        """Refuse a window that is not complete, or not what was written.

        Raises:
            QuernError: the sentence names the file and the window.
        """
        self._require_done(window)
        if not self.is_whole(window):
            raise QuernError(f"window {window} of {self.path} is damaged; delete it and run again.")

    def _require_done(self, window: int) -> None:
        if self._get("done", window) != b"\1":
            raise QuernError(f"{self.path} does not hold window {window}.")

    def read(self, name: str, window: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows `start` to `stop` - 1 of a window.

        Raises:
            QuernError: the window is not complete.
        """
        self._require_done(window)
        place = self._places[name]
        first, last, _ = slice(start, stop).indices(place.shape[0])
        inner = math.prod(place.shape[1:])
        count, size = (last - first) * inner, place.dtype.itemsize
        at = place.offset + window * place.row_bytes + first * inner * size
        raw = np.empty(count, place.dtype)
        os.preadv(self._fd, [memoryview(raw).cast("B")], at)
        return raw.reshape(last - first, *place.shape[1:])

    def stored_rows(self, name: str, window: int, start: int, stop: int) -> StoredRows:
        """Rows `start` to `stop` - 1 of a window, read when they are sliced, by any thread."""
        self._require_done(window)
        place = self._places[name]
        columns = math.prod(place.shape[1:])
        first = place.offset + window * place.row_bytes + start * columns * place.dtype.itemsize
        return StoredRows(self.path, first, place.dtype, stop - start, columns)

    def dtype(self, name: str) -> np.dtype:
        """The dtype of a dataset."""
        return self._places[name].dtype

    def bytes_per(self, positions: int) -> float:
        """Bytes on disk for each of a window's `positions`."""
        return sum(p.row_bytes for n, p in self._places.items() if n not in _OWN) / positions

    def rows(self, name: str) -> np.ndarray:
        """All complete windows of a dataset, in order: [windows, ...]."""
        numbers, place = np.flatnonzero(self.done), self._places[name]
        found = np.empty((len(numbers), *place.shape), place.dtype)
        for row, window in zip(found, numbers, strict=True):
            row[...] = np.frombuffer(self._get(name, window), place.dtype).reshape(place.shape)
        return found


def _lock(fd: int, path: Path, writable: bool) -> None:
    """Let one process write, or several read."""
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if writable else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StoreInUse(f"{path} is being written by another process.") from None
    except OSError:  # a file system without locks
        log.debug("%s cannot be locked", path, exc_info=True)


def _layout(path: Path) -> tuple[dict, dict[str, _Place], int]:
    """Attributes, places of datasets, and the number of windows.

    Raises:
        QuernError: it is not such a store, or is damaged.
    """
    with hdf5.reading(path, "store of windows") as h5:
        attributes = hdf5.attributes(h5)
        found = dict(h5.items())
        known = all(isinstance(d, h5py.Dataset) and d.ndim for d in found.values())
        if not known or not _OWN.keys() <= found.keys():
            raise ValueError("it lacks what every store has")
        places = {n: (d.id.get_offset(), d.dtype, d.shape) for n, d in found.items()}
    rows = {shape[0] for _, _, shape in places.values()}
    if len(rows) != 1 or any(offset is None for offset, _, _ in places.values()):
        raise QuernError(f"{path} is damaged: its datasets do not fit together; delete it.")
    return attributes, {n: _Place(o, d, s[1:]) for n, (o, d, s) in places.items()}, rows.pop()


def partial_path(output: Path) -> Path:
    """Where the windows of an unfinished `output` are kept."""
    return output.with_name(f"{output.name}.partial")


def window_range(first: int | None, last: int | None, available: int) -> range:
    """The windows that `--from` (inclusive) and `--to` (exclusive) ask for.

    Raises:
        QuernError: the range is empty or reaches beyond what is available.
    """
    first, last = first or 0, available if last is None else last
    if not 0 <= first < last <= available:
        raise QuernError(
            f"windows {first} to {last} are not within the {available} windows of the text; "
            "--from is the first window, --to the one after the last."
        )
    return range(first, last)
