"""Raw samples, kept: numbered Parquet parts of one source and language, which are only added to.

A folder's name holds the source and a hash of all that decides what its samples are. The number of
samples is not in it. Asking for more adds parts; asking for fewer uses the first ones.
"""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from .. import QuernError, files
from . import conversations, fetched
from .sources import Source, facts_name, folder_name, identity

PART_SAMPLES = 1000
PART_BYTES = 16 << 20
_KEY = b"quern"


@dataclass(frozen=True)
class Part:
    """A part on disk: how many samples, the number of the record after them, their hash."""

    path: Path
    samples: int
    following: int
    sha256: str


def stored(folder: Path) -> list[Part]:
    """The parts in a folder, in order.

    Raises:
        QuernError: one is damaged, or one before it is missing.
    """
    found = []
    for path in sorted(folder.glob("part-*.parquet")):
        if path.name != _part_name(len(found)):
            raise QuernError(f"{folder} lacks {_part_name(len(found))}; delete the parts after it.")
        try:
            schema = pq.read_metadata(path)
            facts = json.loads(schema.metadata[_KEY])
        except (pa.ArrowInvalid, OSError, KeyError, TypeError) as error:
            what = str(error).splitlines()[0]
            raise QuernError(f"{path} is damaged or not Quern's ({what}); delete it.") from None
        found.append(Part(path, schema.num_rows, facts["following"], facts["sha256"]))
    return found


def _part_name(number: int) -> str:
    return f"part-{number:05}.parquet"


def count(source: Source, directory: Path) -> int:
    """How many samples of a source there are below `directory`."""
    return sum(part.samples for part in stored(directory / folder_name(source)))


def fetch(source: Source, directory: Path) -> Path:
    """Fetch what is missing of a source's samples; what was fetched is kept, even after an error.

    Returns:
        The path of the facts: what was asked for, where it comes from, and its parts.

    Raises:
        QuernError: the source cannot be read, or has fewer samples with text than asked for.
    """
    folder = directory / folder_name(source)
    with _alone(folder):
        return _fetch(source, directory, folder)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time add to a folder: corpora may share a source, and run at once."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(source: Source, directory: Path, folder: Path) -> Path:
    parts, asked = stored(folder), source.samples
    have = sum(part.samples for part in parts)
    following = parts[-1].following if parts else 0
    if asked is None or have < asked:
        wanted = None if asked is None else asked - have
        writer = _Writer(source, folder, len(parts))
        bar = tqdm(total=asked, initial=have, desc=source.label, unit=" samples", disable=None)
        with bar, writer:
            for number, text in fetched.texts(source, following, wanted):
                if text := conversations.packed(text):
                    writer.add(number, text)
                    bar.update()
                    have += 1
                if have == asked:
                    break
        parts = stored(folder)
    if have == 0:
        raise source.fails(f"{source.path} has no samples with text{_of(source)}")
    if asked is not None and have < asked:
        raise source.fails(
            f"{source.path} has {have} samples with text{_of(source)}, {asked} were asked for; "
            "ask for fewer"
        )
    facts = directory / facts_name(source)
    files.write_json(facts, _facts(source, parts, facts))
    return facts


def _of(source: Source) -> str:
    language = f" of the language {source.language}" if source.language else ""
    return f"{language}, after the first {source.skip}" if source.skip else language


def _facts(source: Source, parts: list[Part], facts: Path) -> dict:
    have = sum(part.samples for part in parts)
    listed, left = [], have if source.samples is None else source.samples
    for part in parts:
        if left > 0:
            name = os.path.relpath(part.path, facts.parent)
            listed.append({"file": name, "samples": part.samples, "sha256": part.sha256})
            left -= part.samples
    return {
        "source": source.label,
        "samples": have if source.samples is None else source.samples,
        "origin": identity(source),
        "parts": listed,
    }


class _Writer:
    """Writes parts as they fill up, and the last one at the end of `with`, error or not."""

    def __init__(self, source: Source, folder: Path, number: int):
        self._source, self._folder, self._number = source, folder, number
        self._rows: list[tuple[int, str]] = []
        self._bytes = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._rows:
            self._write()

    def add(self, number: int, text: str) -> None:
        """Add the text of the record of this number."""
        self._rows.append((number, text))
        self._bytes += len(text)
        if len(self._rows) == PART_SAMPLES or self._bytes >= PART_BYTES:
            self._write()

    def _write(self):
        numbers, texts = zip(*self._rows, strict=True)
        digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()
        facts = {
            "origin": identity(self._source),
            "following": numbers[-1] + 1,
            "sha256": digest,
        }
        records = pa.array([self._source.skip + n for n in numbers], pa.int64())
        table = pa.table({"record": records, "text": pa.array(texts, pa.large_string())})
        table = table.replace_schema_metadata({_KEY: json.dumps(facts)})
        with files.replacing(self._folder / _part_name(self._number)) as temporary:
            pq.write_table(table, temporary, compression="zstd")
        self._number, self._rows, self._bytes = self._number + 1, [], 0
