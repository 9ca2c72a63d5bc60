"""Arrays in files that are read piece by piece."""

from pathlib import Path

import numpy as np


class StoredRows:
    """Rows of numbers in a file; a slice of them is read into memory, [rows, columns]."""

    def __init__(self, path: Path, offset: int, dtype: type, rows: int, columns: int):
        self._path, self._offset, self._dtype = path, offset, np.dtype(dtype)
        self.shape = rows, columns

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise ValueError("stored rows are read without a step")
        stop = max(start, stop)
        offset = self._offset + start * self.shape[1] * self._dtype.itemsize
        count = (stop - start) * self.shape[1]
        found = np.fromfile(self._path, self._dtype, count, offset=offset)
        return found.reshape(-1, self.shape[1])
