"""Models on the Hugging Face hub: how they are named, and how their files get here."""

import contextlib
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from .. import QuernError, files
from ..command import reason
from . import safetensors

log = logging.getLogger("quern.models")

_ADDRESS = re.compile(
    r"hf://(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?(/(?P<file>[\w./+ -]+\.gguf))?"
)
PIECE = 64 << 20  # bytes that are asked for at once
_ARRIVING = 1 << 20  # bytes that are written at once


@dataclass(frozen=True)
class Address:
    """A model on the hub.

    Attributes:
        repository: `owner/name`.
        revision: a branch, a tag or a commit; a branch is what it was when the model was fetched.
        file: GGUF in the repository, the first where a model has several; empty where the model is
            the repository's safetensors.
    """

    repository: str
    revision: str
    file: str

    @property
    def place(self) -> str:
        """Its own path below a folder: of the file, or of a folder with the repository's name."""
        name = self.file or self.repository.split("/")[1]
        return str(Path(self.repository, self.revision, name))

    def wanted(self, names: list[str]) -> list[str]:
        """Those of a repository's files that the model consists of.

        Raises:
            QuernError: there are none.
        """
        if not self.file:
            return safetensors.files_of(names, self)
        found = [path.as_posix() for path in files.shards(Path(self.file))]
        if absent := [name for name in found if name not in names]:
            raise QuernError(
                f"{self.repository} has no file {absent[0]} at {self.revision}; it has "
                f"{_some([name for name in names if name.endswith('.gguf')])}."
            )
        return found

    def __str__(self):
        file = f"/{self.file}" if self.file else ""
        return f"hf://{self.repository}@{self.revision}{file}"


def is_address(text: str) -> bool:
    """Whether a model is named by an address and not by a path."""
    return str(text).startswith("hf:")


def address(text: str) -> Address:
    """`hf://owner/name`, with `@revision` or without, and with `/file.gguf` or without.

    Raises:
        QuernError: it is none.
    """
    found = _ADDRESS.fullmatch(text)
    if not found or {"", ".", ".."} & set(re.split("[/@]", text.removeprefix("hf://"))):
        raise QuernError(
            f"{text} is no model on the hub; write hf://owner/name/file.gguf, or hf://owner/name "
            "for a repository of safetensors; hf://owner/name@revision names a branch, a tag or a "
            "commit."
        )
    return Address(found["repository"], found["revision"] or "main", found["file"] or "")


def fetch(wanted: Address, place: Path) -> dict:
    """Fetch a model, and check its files by their hashes. What is there is never fetched again.

    An interrupted run goes on where it stopped. What was fetched stands in a hidden file beside
    `place`; a branch stays at the commit that it had. The library finds a token in HF_TOKEN or in a
    login.

    Args:
        place: where the GGUF is to be, its further files beside it; or the folder of a repository.

    Returns:
        The address, the commit, and bytes and SHA-256 of each file.

    Raises:
        QuernError: the hub does not have it, does not give it, or gives something else.
        OSError: something cannot be written.
    """
    record = place.with_name(f".{place.name}.json")
    known = files.read_json(record) if record.is_file() else {}
    folder = place.parent if wanted.file else place
    there = known.get("files", {})
    if there and all(_has_bytes(folder / name, f["bytes"]) for name, f in there.items()):
        log.info("%s is here, as of commit %s", wanted, known["commit"])
        return known
    # Here, because it takes a second.
    import huggingface_hub

    with _sentences(wanted):
        found = huggingface_hub.HfApi().model_info(
            wanted.repository, revision=known.get("commit", wanted.revision), files_metadata=True
        )
    listed = {entry.rfilename: entry for entry in found.siblings or []}
    entries = [listed[name] for name in wanted.wanted(list(listed))]
    total = sum(entry.size for entry in entries)
    folder.mkdir(parents=True, exist_ok=True)
    require_room(folder, total)
    log.info("%s is commit %s: %d files, %d bytes", wanted, found.sha, len(entries), total)
    facts = {}
    with tqdm(total=total, unit="B", unit_scale=True, desc="fetch", disable=None) as bar:
        for entry in entries:
            name = Path(entry.rfilename).name
            with _sentences(wanted):
                facts[name] = _fetch_file(wanted.repository, found.sha, entry, folder / name, bar)
    known = {"address": str(wanted), "commit": found.sha, "files": dict(sorted(facts.items()))}
    files.write_json(record, known)
    return known


def _fetch_file(repository: str, commit: str, entry, target: Path, bar: tqdm) -> dict:
    """Fetch a file in pieces, after what an interrupted run left; return its bytes and SHA-256.

    The library's own download begins anew after a kill.
    """
    from huggingface_hub import hf_hub_url

    sha256, promised = hashlib.sha256(), entry.lfs.sha256 if entry.lfs else entry.blob_id
    # Git's own hash, of files that are small enough to be kept in it.
    check = sha256 if entry.lfs else hashlib.sha1(f"blob {entry.size}\0".encode())
    part = target.with_name(f".{target.name}.{promised[:16]}.part")
    for left in target.parent.glob(f".{target.name}.*.part"):
        if left != part:  # of another commit
            left.unlink()
    arrived = target if target.is_file() else part
    url = hf_hub_url(repository, entry.rfilename, revision=commit)
    with open(arrived, "a+b") as file:
        file.seek(0)
        while file.tell() < entry.size:
            start, here = file.tell(), file.read(PIECE)
            end = min(start + PIECE, entry.size)
            for piece in [here] if here else _pieces(url, start, end, entry.size):
                if not here:
                    file.write(piece)
                sha256.update(piece)
                check.update(piece) if check is not sha256 else None
                bar.update(len(piece))
            if file.tell() == start:
                raise QuernError(
                    f"{url} gave nothing from byte {start} on; what arrived before is kept, run "
                    "again to go on."
                )
        file.flush()
        os.fsync(file.fileno())
    if check.hexdigest() != promised or arrived.stat().st_size != entry.size:
        arrived.unlink()
        raise QuernError(
            f"{entry.rfilename} arrived with the hash {check.hexdigest()}, and {repository} lists "
            f"{promised}; it was removed. Run again to fetch it anew."
        )
    os.replace(arrived, target)
    return {"bytes": entry.size, "sha256": sha256.hexdigest()}


def _pieces(url: str, start: int, end: int, size: int) -> Iterator[bytes]:
    """Bytes `start` to `end` of a file on the hub, or fewer where the connection breaks.

    A server that knows no ranges sends the whole file: what is here already is dropped, and all
    the rest is given, to its end at `size`.
    """
    # Here, because it takes a second.
    import httpx2
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_stream_backoff

    headers = build_hf_headers(library_name="quern") | {"Range": f"bytes={start}-{end - 1}"}
    with http_stream_backoff("GET", url, headers=headers, follow_redirects=True) as response:
        hf_raise_for_status(response)
        at, end = (0, size) if response.status_code == 200 else (start, end)
        try:
            for piece in response.iter_bytes(_ARRIVING):
                yield piece[max(0, start - at) : max(0, end - at)]
                at += len(piece)
        except httpx2.TransportError as error:
            log.warning("%s broke off at byte %d: %s", url, at, reason(error))


def hashes(facts: dict) -> list[str]:
    """SHA-256 of a model's files, in their order, from the facts of `fetch` or of a conversion."""
    return [file["sha256"] for file in facts["files"].values()]


def require_whole(facts: dict, place: Path) -> None:
    """Refuse a model that was changed since it was fetched.

    Raises:
        QuernError: a file is missing, or has another hash.
    """
    folder = place if place.is_dir() else place.parent
    for name, file in facts["files"].items():
        if files.sha256(folder / name) != file["sha256"]:
            raise QuernError(f"{folder / name} is not what was fetched; delete it and run again.")


def _has_bytes(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def require_room(folder: Path, total: int) -> None:
    """Refuse to begin what cannot end."""
    there = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    free = shutil.disk_usage(folder).free
    if total - there > free:
        raise QuernError(
            f"{folder} has room for {free / 1e9:.1f} GB, and the model takes "
            f"{total / 1e9:.1f} GB; make room and run again."
        )


@contextlib.contextmanager
def _sentences(wanted: Address):
    """What the library raises becomes a sentence; what the disk raises stays."""
    try:
        yield
    except QuernError:
        raise
    except Exception as error:  # the library raises many kinds
        if isinstance(error, OSError) and error.errno:
            raise
        raise QuernError(f"{wanted} cannot be fetched: {_remedy(error)}") from None


def _remedy(error: Exception) -> str:
    """What went wrong, and what to do about it."""
    from huggingface_hub import errors

    remedies = {
        errors.GatedRepoError: "its owner must let you in; ask on its page, and set HF_TOKEN",
        errors.RepositoryNotFoundError: "there is no such repository, or it is private and the "
        "token in HF_TOKEN does not open it",
        errors.RevisionNotFoundError: "the repository has no such branch, tag or commit",
        errors.OfflineModeIsEnabled: "HF_HUB_OFFLINE is set; unset it",
        errors.HfHubHTTPError: f"{reason(error)}. What arrived is kept, run again to go on",
    }
    for kind, said in remedies.items():
        if isinstance(error, kind):
            return f"{said}."
    return (
        f"the hub cannot be reached ({reason(error)}). What arrived is kept, run again where there "
        "is a network to go on."
    )


def _some(names: list[str]) -> str:
    """A few names in words."""
    rest = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + rest or "no GGUF file"
