"""Files of results against the hashes in them and beside them, whatever stage they are of."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .. import QuernError, files, hdf5
from ..corpus import readers, report
from ..corpus.build import PARTS
from ..corpus.sources import Source
from ..gguf_files import field, open_gguf
from ..growth import step
from ..imatrix import formats, shards
from ..measure.window_store import WindowStore
from ..models import hub
from ..tokens import windows


def found(paths: list[Path]) -> Iterator[Path]:
    """The files that can be checked: those named, and those of folders whose ending is known.

    Raises:
        QuernError: a path does not exist, or files of its kind cannot be checked.
    """
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix in _CHECKS and p.is_file())
            yield from (p for p in inside if not p.name.startswith(".") and not _is_fetched(p))
        elif not path.exists():
            raise QuernError(f"{path} does not exist.")
        elif path.suffix not in _CHECKS:
            raise QuernError(f"{path} cannot be checked; known are {', '.join(_CHECKS)}.")
        else:
            yield path


def _is_fetched(path: Path) -> bool:
    """Whether it lies in a folder of somebody else's, which the facts beside that folder check."""
    return any(Path(f"{p}.fetched.json").is_file() for p in path.parents)


def check(path: Path) -> None:
    """Check a file; what a recipe that failed left empty is as it should be.

    Raises:
        QuernError: the file is damaged, or is not what was written.
    """
    if path.stat().st_size or not _failed(path):
        _CHECKS[path.suffix](path)


def _failed(path: Path) -> bool:
    beside = path.with_suffix(".json")
    return beside.exists() and bool(files.failure(beside))


def _hdf5(path: Path) -> None:
    with hdf5.reading(path, "file of Quern") as h5:
        is_store, is_step, is_tokens = "kind" in h5.attrs, "drawn" in h5, "tokens" in h5
    if is_store:
        with WindowStore.open(path) as store:
            for window in np.flatnonzero(store.done):
                store.check(window)
    elif is_step:
        step.read(path)
    elif is_tokens:
        windows.read_tokens(path)
    else:
        shards.read_shard(path)


def _gguf(path: Path) -> None:
    reader, beside = open_gguf(path), path.with_suffix(".json")
    if field(reader, "general.type") == "imatrix":
        formats.read(path)
    elif beside.exists() and files.read_json(beside).get("sha256") != files.sha256(path):
        raise QuernError(f"{path} is not what {beside} describes; delete both and run again.")


def _json(path: Path) -> None:
    facts = files.read_json(path)
    if "documents_sha256" in facts:
        for part in PARTS:
            report.require_whole(facts, path.with_name(f"{part}.txt"), None)
        report.require_whole(facts, path.with_name("pool.txt"), path.with_name("documents.csv"))
    elif "address" in facts:
        hub.require_whole(facts, path.with_name(path.name.removesuffix(".fetched.json")))
    elif "parts" in facts and "origin" in facts:
        for _ in readers.documents(Source(path.stem, str(path), kind="raw")):
            pass


_CHECKS = {".h5": _hdf5, ".gguf": _gguf, ".dat": formats.read, ".json": _json}
