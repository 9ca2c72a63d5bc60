"""Whole files or none: atomic writes, content hashes, JSON with a stable byte order."""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from . import QuernError

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


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
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
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


def shards(path: Path) -> list[Path]:
    """All files of a GGUF model: `path` itself, or every shard where it is the first of several."""
    match = _SHARD.search(path.name)
    if not match:
        return [path]
    stem, count = path.name[: match.start()], int(match[2])
    return [path.with_name(f"{stem}-{i:05}-of-{count:05}.gguf") for i in range(1, count + 1)]
