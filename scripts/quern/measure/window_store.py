"""An HDF5 file with one row per window, that survives being killed at any moment.

All datasets are allocated whole, contiguously, when the file is made; afterwards only raw data is
written, never HDF5's own structure, and a window counts only once its `done` flag is set after its
data. Space that was never written takes no room on a file system with sparse files.
"""

import logging
import os
from pathlib import Path

import h5py
import numpy as np

from .. import QuernError
from ..stored_rows import StoredRows

log = logging.getLogger("quern.store")


class StoreInUse(QuernError):
    """Another process is writing the store."""


class WindowStore:
    """Rows of windows under fixed names, with attributes that say what they belong to."""

    def __init__(self, path: Path, h5: h5py.File):
        self.path, self._h5 = path, h5
        self.attributes = {k: _plain(v) for k, v in h5.attrs.items()}
        self._rows = {n: d for n, d in h5.items() if n != "extra"}  # to look up once

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._h5.close()

    @classmethod
    def create(
        cls,
        path: Path,
        rows: int,
        datasets: dict[str, tuple[tuple[int, ...], type]],
        attributes: dict,
        extra: dict[str, np.ndarray] | None = None,
    ) -> "WindowStore":
        """Make a store for `rows` windows.

        Args:
            datasets: the shape of a window's row, and its dtype, by name.
            extra: whole arrays that belong to no window.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        making = path.with_name(f".{path.name}.{os.getpid()}")
        with h5py.File(making, "w") as h5:
            h5.attrs.update(attributes)
            for name, array in (extra or {}).items():
                h5.create_dataset(f"extra/{name}", data=array)
            for name, (shape, dtype) in (datasets | {"done": ((), np.uint8)}).items():
                plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
                plan.set_obj_track_times(False)  # the same results are the same bytes
                plan.set_layout(h5py.h5d.CONTIGUOUS)
                plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
                if name != "done":  # its zeros are never read, so none are written
                    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
                space = h5py.h5s.create_simple((rows, *shape))
                kind = h5py.h5t.py_create(np.dtype(dtype), logical=True)
                h5py.h5d.create(h5.id, name.encode(), kind, space, plan)
        os.replace(making, path)
        return cls.open(path, writable=True)

    @classmethod
    def open(cls, path: Path, *, writable: bool = False) -> "WindowStore":
        """Open a store.

        Raises:
            QuernError: it is missing, cut short, or not such a store.
        """
        if not Path(path).is_file():
            raise QuernError(f"{path} does not exist.")
        try:
            h5 = h5py.File(path, "r+" if writable else "r")
            if "done" not in h5:
                raise QuernError(f"{path} is an HDF5 file, but not one that Quern wrote.")
            return cls(Path(path), h5)
        except OSError as error:
            if "unable to lock" in str(error):
                raise StoreInUse(f"{path} is being written by another process.") from None
            raise QuernError(
                f"{path} is damaged or cut short ({_short(error)}); delete it and run again."
            ) from None

    @classmethod
    def resume(cls, output: Path, expected: dict, rows: int) -> "WindowStore | None":
        """The unfinished store beside `output`, or a finished `output` to be taken up again.

        One of another number of windows is copied into one of `rows`, as far as its windows go.

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
        if len(store.done) != rows:
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
        data = {n: d for n, d in self._rows.items() if n != "done"}
        new = WindowStore.create(
            self.path.with_name(f".{self.path.name}.resized"),
            rows,
            {name: (d.shape[1:], d.dtype) for name, d in data.items()},
            dict(self._h5.attrs),
            {name: d[()] for name, d in self._h5.get("extra", {}).items()},
        )
        with self:
            for window in np.flatnonzero(self.done[:rows]):
                new.write(window, **{name: d[window] for name, d in data.items()})
                new.commit(window)
        new.finish(self.path)
        return WindowStore.open(self.path, writable=True)

    def finish(self, output: Path) -> None:
        """Close the store and give it its final name."""
        self._h5.close()
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
        return self._rows["done"][:].astype(bool)

    def write(self, window: int, start: int = 0, **arrays: np.ndarray) -> None:
        """Write arrays into a window's rows, from position `start` of each row."""
        for name, array in arrays.items():
            if np.ndim(array) == 0:
                self._rows[name][window] = array
            else:
                self._rows[name][window, start : start + len(array)] = array

    def commit(self, window: int) -> None:
        """Declare a window complete, after its data is in the file."""
        self._h5.flush()
        self._rows["done"][window] = 1
        self._h5.flush()

    def read(self, name: str, window: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows `start` to `stop` - 1 of a window.

        Raises:
            QuernError: the window is not complete.
        """
        if not self._rows["done"][window]:
            raise QuernError(f"{self.path} does not hold window {window}.")
        return self._rows[name][window, start:stop]

    def stored_rows(self, name: str, window: int, start: int, stop: int) -> StoredRows:
        """Rows `start` to `stop` - 1 of a window, read when they are sliced, by any thread."""
        if not self._rows["done"][window]:
            raise QuernError(f"{self.path} does not hold window {window}.")
        data = self._rows[name]
        row = int(np.prod(data.shape[2:]))
        first = (window * data.shape[1] + start) * row * data.dtype.itemsize
        return StoredRows(self.path, data.id.get_offset() + first, data.dtype, stop - start, row)

    def dtype(self, name: str) -> np.dtype:
        """The dtype of a dataset."""
        return self._rows[name].dtype

    def bytes_per(self, positions: int) -> float:
        """Bytes on disk for each of a window's `positions`."""
        rows = [d for n, d in self._rows.items() if n != "done"]
        return sum(d.dtype.itemsize * int(np.prod(d.shape[1:])) for d in rows) / positions

    def extra(self, name: str) -> np.ndarray | None:
        """A whole array that belongs to no window, if there is one."""
        return self._h5["extra"][name][()] if f"extra/{name}" in self._h5 else None

    def rows(self, name: str) -> np.ndarray:
        """All complete windows of a dataset, in order: [windows, ...]."""
        return self._rows[name][:][self.done]


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


def _plain(value):
    return value.item() if isinstance(value, np.generic) else value


def _short(error: OSError) -> str:
    return str(error).split("(", 1)[-1].rstrip(")")
