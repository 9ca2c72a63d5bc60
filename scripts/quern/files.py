"""Whole files or none: atomic writes, content hashes, JSON with a stable byte order; and arrays in
files that are read piece by piece."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from . import QuernError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds.

    On any exception the temporary file is removed and `path` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Keep the ending: some writers choose the format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: dict) -> None:
    """Write `content` atomically; the same content gives the same bytes."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict:
    """Read a JSON file written by `write_json`.

    Raises:
        QuernError: the file is missing or not JSON.
    """
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise QuernError(f"{path} does not exist.") from None
    except ValueError as error:
        raise QuernError(f"{path} is not valid JSON ({error}); delete it and run again.") from None


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's content.

    Raises:
        QuernError: the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise QuernError(f"{path} cannot be read: {error.strerror}.") from None


class StoredRows:
    """Rows of numbers in a file; a slice of them is read into memory, [rows, columns]."""

    def __init__(self, path: Path, offset: int, dtype: type, rows: int, columns: int):
        self._path, self._offset, self._dtype = path, offset, np.dtype(dtype)
        self.shape = rows, columns

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(len(self))
        offset = self._offset + start * self.shape[1] * self._dtype.itemsize
        count = (stop - start) * self.shape[1]
        found = np.fromfile(self._path, self._dtype, count, offset=offset)
        return found.reshape(-1, self.shape[1])
