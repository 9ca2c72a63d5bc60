"""What was found of users' files, so that it is not found again each time a workflow is read."""

from collections.abc import Callable, Sequence
from pathlib import Path

from . import QuernError, files


class Remembered:
    """Findings by path, kept in a JSON file and found anew when a size or a time differs."""

    def __init__(self, cache: Path):
        self._cache = cache
        try:
            self._known = files.read_json(cache)
        except QuernError:  # missing or damaged: it is only a cache
            self._known = {}

    def of(self, path: Path, parts: Sequence[Path], find: Callable[[], dict]) -> dict:
        """What `find` returns of a file that consists of these parts, which exist."""
        if not self.has(path, parts):
            self._known[str(path)] = {"stamp": _stamp(parts)} | find()
            files.write_json(self._cache, self._known)
        return self._known[str(path)]

    def has(self, path: Path, parts: Sequence[Path]) -> bool:
        """Whether `of` would find nothing anew."""
        return self._known.get(str(path), {}).get("stamp") == _stamp(parts)


def _stamp(parts: Sequence[Path]) -> list[list[int]]:
    stats = [part.stat() for part in parts]
    return [[stat.st_size, stat.st_mtime_ns] for stat in stats]
