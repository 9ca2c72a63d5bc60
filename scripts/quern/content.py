"""What users' files hold, which decides what is stale: SHA-256, remembered by size and time."""

import hashlib
from pathlib import Path

from . import QuernError, files

LARGE = 1 << 30  # bytes of a file that takes more than some seconds to read
_BLOCK = 16 << 20


class ContentHashes:
    """SHA-256 of users' files, kept in a JSON file and taken anew when size or time differ."""

    def __init__(self, cache: Path):
        self._cache = cache
        try:
            self._known = files.read_json(cache)
        except QuernError:  # missing or damaged: it is only a cache
            self._known = {}

    def of(self, path: Path) -> str:
        """Hash of a file's content, or `missing`."""
        path = Path(path)
        if not path.is_file():
            return "missing"
        stat = path.stat()
        entry = self._known.get(str(path))
        if entry and entry["bytes"] == stat.st_size and entry["mtime_ns"] == stat.st_mtime_ns:
            return entry["sha256"]
        entry = {
            "bytes": stat.st_size,
            "mtime_ns": stat.st_mtime_ns,
            "sha256": _watched(path) if stat.st_size > LARGE else files.sha256(path),
        }
        self._known[str(path)] = entry
        files.write_json(self._cache, self._known)
        return entry["sha256"]


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
