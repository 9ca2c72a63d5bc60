"""Texts on disk. Memory holds about 50 bytes of each: its key, its place and its source."""

import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np

ENTRY = np.dtype(
    [
        ("high", np.uint64),  # the key's first 8 bytes, big-endian
        ("low", np.uint64),  # its next 8
        ("offset", np.uint64),
        ("bytes", np.uint32),
        ("characters", np.uint32),
        ("source", np.uint16),
    ]
)
_TOGETHER = 1 << 14  # entries that are turned into an array at once


class Spool:
    """Texts in the order in which they were added, in a file without a name, gone after `with`.

    Args:
        directory: where the file lies; it needs as much room as the text.
        seed: goes into each text's key, SHA-256 of the seed, a line end and the text.
    """

    def __init__(self, directory: Path, seed: int):
        directory.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=directory, buffering=1 << 20)  # noqa: SIM115
        self._prefix = f"{seed}\n".encode()
        self._chunks: list[np.ndarray] = []
        self._recent: list[tuple] = []
        self._size = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def add(self, source: int, text: str) -> int:
        """Add a text of the source of this number; return its bytes."""
        content = text.encode()
        key = hashlib.sha256(self._prefix + content).digest()
        high, low = int.from_bytes(key[:8], "big"), int.from_bytes(key[8:16], "big")
        self._recent.append((high, low, self._size, len(content), len(text), source))
        if len(self._recent) == _TOGETHER:
            self._pack()
        self._file.write(content)
        self._size += len(content)
        return len(content)

    def _pack(self):
        self._chunks.append(np.array(self._recent, ENTRY))
        self._recent = []

    def entries(self) -> np.ndarray:
        """All texts, ENTRY [n], in the order in which they were added; then they can be read."""
        self._pack()
        self._file.flush()
        self._chunks = [np.concatenate(self._chunks)]
        return self._chunks[0]

    def read(self, entry: np.void) -> bytes:
        """One text, UTF-8."""
        # Not through the file's buffer, which would be filled anew for every text.
        return os.pread(self._file.fileno(), int(entry["bytes"]), int(entry["offset"]))
