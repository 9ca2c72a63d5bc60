"""What users' files hold, which decides what is stale: SHA-256, remembered by size and time."""

import hashlib
from pathlib import Path

from . import files
from .remembered import Remembered

LARGE = 1 << 30  # bytes of a file that takes more than some seconds to read
_BLOCK = 16 << 20


class ContentHashes:
    """SHA-256 of users' files, kept in a JSON file and taken anew when size or time differ."""

    def __init__(self, cache: Path):
        self._known = Remembered(cache)

    def must_read(self, path: Path) -> bool:
        """Whether a large file would be read to hash it."""
        path = Path(path)
        is_large = path.is_file() and path.stat().st_size > LARGE
        return is_large and not self._known.has(path, [path])

    def of(self, path: Path) -> str:
        """Hash of a file's content, or `missing`."""
        path = Path(path)
        if not path.is_file():
            return "missing"
        return self._known.of(path, [path], lambda: {"sha256": _sha256(path)})["sha256"]


def _sha256(path: Path) -> str:
    return _watched(path) if path.stat().st_size > LARGE else files.sha256(path)


def _watched(path: Path) -> str:
    """Hex SHA-256 of a large file, with a bar."""
    from tqdm import tqdm  # not while a workflow is read that knows its files

    digest = hashlib.sha256()
    options = {"unit": "B", "unit_scale": True, "desc": f"hash {path.name}", "disable": None}
    with tqdm(total=path.stat().st_size, **options) as bar, path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()
