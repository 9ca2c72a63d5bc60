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

from . import QuernError

log = logging.getLogger("quern.store")


class WindowStore:
    """Rows of windows under fixed names, with attributes that say what they belong to."""

    def __init__(self, path: Path, h5: h5py.File):
        self.path, self._h5 = path, h5
        self.attributes = {k: _plain(v) for k, v in h5.attrs.items()}

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
    ) -> "WindowStore":
        """Make a store for `rows` windows; `datasets` gives the shape of a row and its dtype."""
        path.parent.mkdir(parents=True, exist_ok=True)
        making = path.with_name(f".{path.name}.{os.getpid()}")
        with h5py.File(making, "w") as h5:
            h5.attrs.update(attributes)
            for name, (shape, dtype) in (datasets | {"done": ((), np.uint8)}).items():
                plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
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
            raise QuernError(
                f"{path} is damaged or cut short ({_short(error)}); delete it and run again."
            ) from None

    @classmethod
    def resume(
        cls,
        output: Path,
        rows: int,
        datasets: dict[str, tuple[tuple[int, ...], type]],
        attributes: dict,
    ) -> "WindowStore":
        """Go on with the unfinished store beside `output`, or begin one.

        A finished `output` of the same settings is taken up again, so more windows can be added.
        What was left unfinished under other settings is replaced.
        """
        partial = partial_path(output)
        if not partial.exists() and output.exists():
            with cls.open(output) as store:
                store.require(attributes)
            os.replace(output, partial)
        if partial.exists():
            try:
                store = cls.open(partial, writable=True)
                store.require(attributes)
                log.info("%s: %d windows are done already", partial, store.done.sum())
                return store
            except QuernError as error:
                log.warning("starting anew: %s", error)
                partial.unlink()
        return cls.create(partial, rows, datasets, attributes)

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
        return self._h5["done"][:].astype(bool)

    def write(self, window: int, start: int = 0, **arrays: np.ndarray) -> None:
        """Write arrays into a window's rows, from position `start` of each row."""
        for name, array in arrays.items():
            if np.ndim(array) == 0:
                self._h5[name][window] = array
            else:
                self._h5[name][window, start : start + len(array)] = array

    def commit(self, window: int) -> None:
        """Declare a window complete, after its data is in the file."""
        self._h5.flush()
        self._h5["done"][window] = 1
        self._h5.flush()

    def read(self, name: str, window: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows `start` to `stop` - 1 of a window.

        Raises:
            QuernError: the window is not complete.
        """
        if not self._h5["done"][window]:
            raise QuernError(f"{self.path} does not hold window {window}.")
        return self._h5[name][window, start:stop]

    def rows(self, name: str) -> np.ndarray:
        """All complete windows of a dataset, in order: [windows, ...]."""
        return self._h5[name][:][self.done]


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
