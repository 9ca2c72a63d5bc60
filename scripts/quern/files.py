"""Whole files or none: atomic writes, content hashes, JSON with a stable byte order."""

import contextlib
import errno
import fcntl
import glob
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from . import QuernError

SUMMED = (".csv", ".html", ".md", ".png", ".svg", ".txt")  # endings of what holds no hash itself
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
POINTER = b"version https://git-lfs"  # how a file begins that git-lfs is to replace


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds.

    The temporary file exists already, empty, and is locked. On any exception it is removed and
    `path` stays as it was. What a process that was killed left behind is removed first. A hash of
    what is `SUMMED` lies beside it, see `sums`.

    Raises:
        OSError: something could not be written; its `filename` is set.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    # Keep the ending: some writers choose the format by it.
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        fd = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        try:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.utime(fd, (0, 0))
            yield temporary
            if os.fstat(fd).st_mtime == 0:
                raise FileNotFoundError(errno.ENOENT, "nothing was written", str(path))
            os.fsync(fd)
            if path.suffix in SUMMED:
                _replace_with_sum(temporary, path)
            else:
                os.replace(temporary, path)
        finally:
            os.close(fd)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def is_pointer(path: Path) -> bool:
    """Whether a file only says which file git-lfs would put in its place."""
    with open(path, "rb") as file:
        return file.read(len(POINTER)) == POINTER


def sum_path(path: Path) -> Path:
    """Where the hash of a file lies, as `sha256sum -c` reads it."""
    return path.with_name(f".{path.name}.sha256")


def _coming_sum_path(path: Path) -> Path:
    """Where the hash of what replaces a file lies until it is there."""
    return path.with_name(f".{path.name}.sha256.new")


def _replace_with_sum(temporary: Path, path: Path) -> None:
    """Rename a file to `path`, and its hash after it; a kill in between harms neither."""
    coming = _coming_sum_path(path)
    with replacing(coming) as sum_file:
        sum_file.write_text(f"{sha256(temporary)}  {path.name}\n", encoding="utf-8")
    os.replace(temporary, path)
    with contextlib.suppress(FileNotFoundError):  # another process was faster
        os.replace(coming, sum_path(path))


def sums(path: Path) -> list[str]:
    """The hashes beside a file, any of which it may have.

    There are two where a process was killed while it replaced the file: of the old one and the new.
    """
    beside = (p for p in (sum_path(path), _coming_sum_path(path)) if p.is_file())
    texts = (p.read_text(encoding="utf-8", errors="replace") for p in beside)
    return [text.partition(" ")[0] for text in texts]


def read_summed(path: Path) -> bytes:
    """The content of a file that is `SUMMED`, which is what the hash beside it says.

    Raises:
        QuernError: it cannot be read, was changed since, or has no hash beside it.
    """
    path = Path(path)
    try:
        content, known = path.read_bytes(), sums(path)
    except OSError as error:
        raise QuernError(f"{path} cannot be read: {error.strerror}.") from None
    if not known:
        raise QuernError(
            f"{path} has no hash beside it ({sum_path(path).name}), so nothing says that it is "
            "whole; delete it and run again, or bring that file along."
        )
    if hashlib.sha256(content).hexdigest() not in known:
        raise QuernError(f"{path} is not what was written; delete it and run again.")
    return content


def _remove_abandoned(path: Path) -> None:
    """Remove temporary files for `path` that no living process holds."""
    pattern = f".{glob.escape(path.stem)}.{'[0-9a-f]' * 8}{glob.escape(path.suffix)}"
    for left in path.parent.glob(pattern):
        with contextlib.suppress(OSError):  # another process was faster
            fd = os.open(left, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()
            finally:
                os.close(fd)


_SEAL = "content_sha256"


def write_json(path: Path, content: dict) -> None:
    """Write `content` atomically, with a hash of it; the same content gives the same bytes."""
    with replacing(path) as temporary:
        temporary.write_text(json_text(content), encoding="utf-8")


def json_text(content: dict) -> str:
    """`content` as `write_json` writes it."""
    sealed = content | {_SEAL: _digest(content)}
    return json.dumps(sealed, indent=2, ensure_ascii=False) + "\n"


def _digest(content: dict) -> str:
    as_read = json.loads(json.dumps(content))  # keys are text there
    return hashlib.sha256(json.dumps(as_read, sort_keys=True).encode()).hexdigest()


def read_json(path: Path) -> dict:
    """Read a JSON file written by `write_json`.

    Raises:
        QuernError: the file is missing or not JSON, holds NaN, or was changed since.
    """

    def constant(name):
        if name == "NaN":
            raise ValueError("it holds NaN")
        return float(name)

    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=constant)
    except FileNotFoundError:
        raise QuernError(f"{path} does not exist.") from None
    except (ValueError, RecursionError) as error:
        raise QuernError(f"{path} is not valid JSON ({error}); delete it and run again.") from None
    if not isinstance(found, dict):
        raise QuernError(f"{path} is JSON, but no object; delete it and run again.")
    if found.pop(_SEAL, None) != _digest(found):
        raise QuernError(f"{path} is not what was written; delete it and run again.")
    return found


def write_failure(path: Path, reason: str, *others: Path) -> None:
    """Write to `path` (JSON) why a result cannot be, and leave the files beside it empty."""
    for other in others:
        with replacing(other) as temporary:
            temporary.write_bytes(b"")
    write_json(path, {"failed": reason})


def failure(path: Path) -> str:
    """Why a result cannot be, as `write_failure` left it; empty where it is there."""
    return read_json(path).get("failed", "")


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
