"""Files of a repository on the Hugging Face hub: which they are, and how they get here."""

import logging
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from .. import QuernError, files
from ..command import reason

log = logging.getLogger("quern.models")

_NAME = r"[A-Za-z0-9][\w.-]*"
_ADDRESS = re.compile(
    rf"hf://(?P<repository>{_NAME}/{_NAME})(?:@(?P<revision>{_NAME}))?/(?P<file>[\w./+ -]+\.gguf)"
)


@dataclass(frozen=True)
class Address:
    """A file of a repository.

    Attributes:
        repository: `owner/name`.
        revision: a branch, a tag or a commit; a branch is what it was when the file was fetched.
        file: path in the repository; of a model in several files the first.
    """

    repository: str
    revision: str
    file: str

    @property
    def files(self) -> list[str]:
        """The paths of all files of the model."""
        return [path.as_posix() for path in files.shards(Path(self.file))]

    def below(self, folder: str) -> str:
        """Where the file is once it is fetched."""
        return str(Path(folder, self.repository, self.revision, self.file))

    def __str__(self):
        return f"hf://{self.repository}@{self.revision}/{self.file}"


def is_address(text: str) -> bool:
    """Whether a model is named by an address and not by a path."""
    return str(text).startswith("hf:")


def address(text: str) -> Address:
    """`hf://owner/name/file.gguf` or `hf://owner/name@revision/file.gguf`.

    Raises:
        QuernError: it is neither.
    """
    found = _ADDRESS.fullmatch(text)
    parts = found["file"].split("/") if found else []
    if not found or {"", ".", ".."} & set(parts):
        raise QuernError(
            f"{text} is no address of a GGUF file; write hf://owner/name/file.gguf, or "
            "hf://owner/name@revision/file.gguf for a branch, a tag or a commit."
        )
    return Address(found["repository"], found["revision"] or "main", found["file"])


def fetch(wanted: Address, output: Path) -> dict:
    """Fetch a model to `output` and its further files beside it, and check them by their hashes.

    Files arrive in a folder beside `output`, named after the commit, where an interrupted run goes
    on; the named one gets its name last. A token is taken from HF_TOKEN or a login, by the library.

    Returns:
        The address, the commit, and bytes and SHA-256 of each file.

    Raises:
        QuernError: the hub does not have it, does not give it, or gives something else.
    """
    # Here, because it takes a second.
    import huggingface_hub

    try:
        found = huggingface_hub.HfApi().model_info(
            wanted.repository, revision=wanted.revision, files_metadata=True
        )
        incoming = output.parent / f".{output.name}.{found.sha}"
        listed = {entry.rfilename: entry for entry in found.siblings or []}
        if absent := [name for name in wanted.files if name not in listed]:
            raise QuernError(
                f"{wanted.repository} has no file {absent[0]} at {wanted.revision}; it has "
                f"{_some([name for name in listed if name.endswith('.gguf')])}."
            )
        facts = {}
        for name in wanted.files:
            _download(wanted.repository, found.sha, listed[name], incoming)
            facts[Path(name).name] = _checked(wanted, incoming / name, listed[name])
        for name in reversed(wanted.files):  # the named one last
            os.replace(incoming / name, output.with_name(Path(name).name))
    except QuernError:
        raise
    except Exception as error:  # the library raises many kinds
        raise QuernError(f"{wanted} cannot be fetched: {_remedy(error)}") from None
    shutil.rmtree(incoming)
    return {"address": str(wanted), "commit": found.sha, "files": facts}


def _download(repository: str, commit: str, listed, incoming: Path) -> None:
    """Fetch a file, or the rest of it. The library's own function for that keeps no rest."""
    from huggingface_hub import constants, file_download, utils

    if listed.size > constants.MAX_HTTP_DOWNLOAD_SIZE:  # in its other protocol, chunks are kept
        file_download.hf_hub_download(
            repository, listed.rfilename, revision=commit, local_dir=incoming
        )
        return
    arrived = incoming / listed.rfilename
    arrived.parent.mkdir(parents=True, exist_ok=True)
    with arrived.open("ab") as file:
        if file.tell() > listed.size:
            file.truncate(0)
        file_download.http_get(
            file_download.hf_hub_url(repository, listed.rfilename, revision=commit),
            file,
            resume_size=file.tell(),
            headers=utils.build_hf_headers(),
            expected_size=listed.size,
            displayed_filename=arrived.name,
        )


def _checked(wanted: Address, arrived: Path, listed) -> dict:
    """Bytes and hash of a file, if they are as the hub lists them."""
    sha256 = files.sha256(arrived)
    promised = listed.lfs.sha256 if listed.lfs else None
    if promised and sha256 != promised:
        arrived.unlink()
        raise QuernError(
            f"{arrived.name} arrived with the hash {sha256}, and {wanted.repository} lists "
            f"{promised}; it was removed. Run again to fetch it anew."
        )
    if not promised:
        log.warning("%s lists no hash of %s to check it by", wanted.repository, arrived.name)
    return {"bytes": arrived.stat().st_size, "sha256": sha256}


def _remedy(error: Exception) -> str:
    """What went wrong, and what to do about it."""
    from huggingface_hub import errors

    remedies = {
        errors.GatedRepoError: "its owner must let you in: ask on its page, and set HF_TOKEN",
        errors.RepositoryNotFoundError: "there is no such repository, or it is private and needs "
        "HF_TOKEN",
        errors.RevisionNotFoundError: "the repository has no such branch, tag or commit",
        errors.LocalEntryNotFoundError: "the hub cannot be reached; run again where there is a "
        "network, it goes on where it stopped",
    }
    for kind, said in remedies.items():
        if isinstance(error, kind):
            return f"{said}."
    return f"{reason(error)}. Run again, it goes on where it stopped."


def _some(names: list[str]) -> str:
    """A few names in words."""
    rest = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + rest or "no GGUF file"
