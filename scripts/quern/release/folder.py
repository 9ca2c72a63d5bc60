"""A folder that is there whole or not at all, and the list of its files' hashes."""

import contextlib
import fcntl
import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from .. import files

SUMS = "SHA256SUMS"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; give it that name if the block succeeds.

    On any exception it is removed, and `path` stays as it was. What a process that was killed left
    behind is removed first.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 8}"):
        _remove_abandoned(left)
    temporary, old = (path.with_name(f".{path.name}.{secrets.token_hex(4)}") for _ in range(2))
    temporary.mkdir()
    held = os.open(temporary, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield temporary
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
    finally:
        os.close(held)
        for folder in (temporary, old):
            shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(folder: Path) -> None:
    """Remove a folder that no living process holds."""
    with contextlib.suppress(OSError):  # another process was faster, or it is in use
        fd = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        finally:
            os.close(fd)


def hashes(folder: Path, known: dict[str, str] | None = None) -> dict[str, str]:
    """SHA-256 of each file in a folder, by its path there, in order; `known` ones are not taken."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    found = dict(known or {})
    left = {name: path for name, path in names.items() if name not in found}
    total = sum(path.stat().st_size for path in left.values())
    with tqdm(total=total, unit="B", unit_scale=True, desc="hash", disable=None) as bar:
        for name, path in left.items():
            found[name] = files.sha256(path)
            bar.update(path.stat().st_size)
    return {name: found[name] for name in names}


def write_sums(folder: Path, sums: dict[str, str]) -> None:
    """Write the hashes as `sha256sum -c` reads them."""
    text = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
    (folder / SUMS).write_text(text, encoding="utf-8")
