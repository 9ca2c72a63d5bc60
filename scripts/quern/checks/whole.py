"""Files of results against the hashes in them and beside them, whatever stage they are of."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .. import QuernError, files, hdf5
from ..corpus import readers, report
from ..corpus.build import PARTS
from ..corpus.sources import Source
from ..gguf_files import GgufFile, field, open_gguf
from ..imatrix import formats
from ..measure.window_store import WindowStore
from ..models import hub
from ..release.folder import SUMS


def found(paths: list[Path]) -> Iterator[Path]:
    """The files that can be checked: those named, and those of folders whose ending is known.

    Raises:
        QuernError: a path does not exist, or files of its kind cannot be checked.
    """
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if _is_known(p) and p.is_file())
            yield from (p for p in inside if not p.name.startswith(".") and not _is_fetched(p))
        elif not path.exists():
            raise QuernError(f"{path} does not exist.")
        elif not _is_known(path):
            known = ", ".join([*_CHECKS, *files.SUMMED])
            raise QuernError(f"{path} cannot be checked; known are {known}.")
        else:
            yield path


def _is_known(path: Path) -> bool:
    return path.suffix in _CHECKS or path.suffix in files.SUMMED or path.name == SUMS


def _is_fetched(path: Path) -> bool:
    """Whether it lies in a folder of somebody else's, which the facts beside that folder check."""
    return any(Path(f"{p}.fetched.json").is_file() for p in path.resolve().parents)


def check(path: Path) -> bool:
    """Check a file; what a recipe that failed left empty is as it should be.

    Returns:
        Whether there is a hash to check it against.

    Raises:
        QuernError: the file is damaged, or is not what was written.
    """
    if path.name == SUMS:
        _require_listed(path)
        return True
    if said := _said(path):
        place, digests = said
        if files.sha256(path) not in digests:
            stale = place.parent if place.name == SUMS else path  # a release is made whole
            raise QuernError(f"{path} is not what {place} says; delete {stale} and run again.")
        return True
    if path.suffix not in _CHECKS:
        return False
    if not path.stat().st_size and _failed(path):
        return True
    return _CHECKS[path.suffix](path)


def _said(path: Path) -> tuple[Path, list[str]] | None:
    """The hashes that stand beside a file, or in the list of a release, and where."""
    if beside := files.sums(path):
        return files.sum_path(path), beside
    for folder in path.parents:
        if digest := _sums(folder / SUMS).get(path.relative_to(folder).as_posix()):
            return folder / SUMS, [digest]
    return None


def _sums(path: Path) -> dict[str, str]:
    """Hashes by name, as `sha256sum -c` reads them; none where there is no such file."""
    lines = (
        path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    )
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _require_listed(path: Path) -> None:
    lacking = [name for name in _sums(path) if not (path.parent / name).is_file()]
    if lacking:
        raise QuernError(
            f"{path} lists {lacking[0]}, which is not there; delete {path.parent} and run again."
        )


def _failed(path: Path) -> bool:
    beside = path.with_suffix(".json")
    return beside.exists() and bool(files.failure(beside))


def _hdf5(path: Path) -> bool:
    with hdf5.reading(path, "file of Quern") as h5:
        is_store = "kind" in h5.attrs
    if is_store:
        with WindowStore.open(path) as store:
            for window in np.flatnonzero(store.done):
                store.check(window)
    return True


def _gguf(path: Path) -> bool:
    file, beside = open_gguf(path), path.with_suffix(".json")
    if field(file, "general.type") == "imatrix":
        return _imatrix(path, file)
    if not beside.exists():
        return False
    if files.read_json(beside).get("sha256") != files.sha256(path):
        raise QuernError(f"{path} is not what {beside} describes; delete both and run again.")
    return True


def _imatrix(path: Path, file: GgufFile) -> bool:
    """Its hash is of its content; what pads that are zeros."""
    formats.read(path)
    raw = np.fromfile(path, np.uint8)
    raw[: file.header.end] = 0
    for tensor in file.tensors:
        raw[tensor.data_offset : tensor.data_offset + tensor.n_bytes] = 0
    if raw.any():
        raise QuernError(f"{path} is damaged between its tensors; delete it and run again.")
    return formats.HASH in file.header.fields


def _dat(path: Path) -> bool:
    formats.read(path)
    return False


def _json(path: Path) -> bool:
    facts = files.read_json(path)
    if path.read_text(encoding="utf-8") != files.json_text(facts):
        raise QuernError(f"{path} is not what was written; delete it and run again.")
    pool = path.with_name("pool.txt")
    if "documents_sha256" in facts and not files.sums(pool):  # of before there were
        for part in PARTS:
            report.require_whole(facts, path.with_name(f"{part}.txt"), None)
        report.require_whole(facts, pool, path.with_name("documents.csv"))
    elif "address" in facts:
        hub.require_whole(facts, path.with_name(path.name.removesuffix(".fetched.json")))
    elif "parts" in facts and "origin" in facts:
        for _ in readers.documents(Source(path.stem, str(path), kind="raw")):
            pass
    return True


_CHECKS = {".h5": _hdf5, ".gguf": _gguf, ".dat": _dat, ".json": _json}
