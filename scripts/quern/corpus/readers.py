"""Documents in files: text, JSON lines, CSV, Parquet, and samples that were kept.

A new kind of file is a generator of documents and a line in `READERS`.
"""

import codecs
import csv
import glob
import gzip
import hashlib
import itertools
import json
import logging
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import zstandard

from .. import files
from ..plugin_base import at_path
from . import conversations
from .sources import FETCHED, Source

log = logging.getLogger("quern.readers")

BLOCK = 1 << 20  # bytes read at a time
LONGEST_LINE = 64 << 20  # characters; whoever packs more into a line means no document
UNPACKED = (
    2000,
    1 << 30,
)  # times the size of a file, and bytes, beyond which it is no text but a bomb
LONGEST = 4 << 20  # characters of one document; a longer one is cut at an empty line
_ENDINGS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}


def kind_of(source: Source, path: Path) -> str:
    """The kind of one of a source's files, as given or by its ending."""
    ending = Path(path.stem).suffix if path.suffix in (".gz", ".zst") else path.suffix
    return source.kind or _ENDINGS.get(ending.lower(), "text")


def paths(source: Source) -> list[Path]:
    """The files that a source's path names, in order.

    Raises:
        QuernError: there are none.
    """
    found = sorted(p for p in map(Path, glob.glob(source.path, recursive=True)) if p.is_file())
    if not found:
        raise source.fails(f"no file matches {source.path}")
    return found


def documents(source: Source) -> Iterator[str]:
    """The documents of a source, stripped of surrounding white space; empty ones left out.

    Conversations are packed, see `conversations`.

    Raises:
        QuernError: no file matches, a file is damaged or not UTF-8, a record lacks the field, the
            source must be fetched first, or there is no text at all.
    """
    if source.kind in FETCHED:
        raise source.fails(f"kind {source.kind} must be fetched first, with fetch.py")
    empty = True
    for text in _file_documents(source):
        for document in _cut(source, text):
            if document := document.strip():
                empty = False
                yield document
    if empty:
        raise source.fails(f"{source.path} hold no text")


def _file_documents(source: Source) -> Iterator[str]:
    for path in paths(source):
        times, least = UNPACKED
        left = max(least, times * path.stat().st_size)
        if kind_of(source, path) == "raw":
            left = float("inf")  # a list of files that Quern wrote itself
        for text in READERS[kind_of(source, path)](source, path):
            left -= len(text)
            if left < 0:
                raise source.fails(f"{path} unpacks to more than {times} times its size")
            yield text


def _cut(source: Source, text: str) -> Iterator[str]:
    """Pieces of at most LONGEST characters, cut at an empty line, a line or anywhere."""
    while len(text) > LONGEST:
        at = max(text.rfind("\n\n", 1, LONGEST), 0) or max(text.rfind("\n", 1, LONGEST), 0)
        log.warning("source %s: a document of %d characters is cut", source.label, len(text))
        yield text[: at or LONGEST]
        text = text[at or LONGEST :]
    yield text


# --- bytes and characters -------------------------------------------------------------------


def _blocks(source: Source, path: Path) -> Iterator[bytes]:
    """A file's content, decompressed by its ending, block by block."""
    try:
        if path.suffix == ".zst":
            yield from _unpacked(path)
            return
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            while block := file.read(BLOCK):
                yield block
    except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
        raise source.fails(f"{path} is damaged or cut short ({error})") from None


def _unpacked(path: Path) -> Iterator[bytes]:
    """The content of all frames of a Zstandard file; the last one must have its end."""
    frame = None
    with open(path, "rb") as file:
        while packed := file.read(1 << 14):
            while packed:
                frame = frame or zstandard.ZstdDecompressor().decompressobj()
                yield frame.decompress(packed)
                packed, frame = (frame.unused_data, None) if frame.eof else (b"", frame)
    if frame:
        raise EOFError("its last frame has no end")


def _characters(source: Source, path: Path) -> Iterator[str]:
    """A file's text, block by block, without a byte order mark."""
    decoder, done = codecs.getincrementaldecoder("utf-8")(), 0
    for block in itertools.chain(filter(None, _blocks(source, path)), [b""]):
        waiting = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            at = done - waiting + error.start
            raise source.fails(f"{path} is not UTF-8 at byte {at}; convert it first") from None
        yield text.removeprefix("\ufeff") if done == 0 else text
        done += len(block)


def _lines(source: Source, path: Path) -> Iterator[str]:
    """A file's text, line by line, line ends kept."""
    parts: list[str] = []  # of the line so far
    size = 0
    for text in _characters(source, path):
        first, *lines = text.split("\n")
        parts.append(first)
        size += len(first)
        if size > LONGEST_LINE:
            raise source.fails(f"{path} has a line of more than {LONGEST_LINE:,} characters")
        for line in lines:
            yield "".join(parts) + "\n"
            parts, size = [line], len(line)
    if rest := "".join(parts):
        yield rest


# --- kinds of files -------------------------------------------------------------------------


def _text_documents(source: Source, path: Path) -> Iterator[str]:
    parts: list[str] = []  # of the document so far
    size = 0
    for text in _characters(source, path):
        if source.separator:
            *documents, text = ("".join(parts) + text).split(source.separator)
            yield from documents
            parts, size = [], 0
        parts.append(text)
        size += len(text)
        if size > 2 * LONGEST:
            *pieces, rest = _cut(source, "".join(parts))
            yield from pieces
            parts, size = [rest], len(rest)
    yield "".join(parts)


def text_of(source: Source, record, where: str) -> str:
    """The text of a record, or its messages, packed; empty where it is null.

    Raises:
        QuernError: the record has no such field, or it is neither text nor a list of messages.
    """
    try:
        value = at_path(record, source.field)
    except LookupError as error:
        raise source.fails(f"{where} has {error}") from None
    return as_text(source, value, f"field {source.field} in {where}")


def as_text(source: Source, value, what: str) -> str:
    """A text as it is, a list of messages packed, and nothing for null.

    Raises:
        QuernError: the value is something else; the sentence calls it `what`.
    """
    if isinstance(value, list):
        try:
            return conversations.pack(value)
        except ValueError as error:
            raise source.fails(f"{what} is a list, but no conversation: {error}") from None
    if not isinstance(value, str | None):
        raise source.fails(f"{what} is {type(value).__name__}, not text")
    return value or ""


def _json_documents(source: Source, path: Path) -> Iterator[str]:
    for number, line in enumerate(_lines(source, path), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise source.fails(f"line {number} of {path} is not JSON ({error})") from None
        yield text_of(source, record, f"line {number} of {path}")


def _csv_documents(source: Source, path: Path) -> Iterator[str]:
    csv.field_size_limit(sys.maxsize)
    tabs = ".tsv" in path.suffixes
    rows = csv.DictReader(_lines(source, path), delimiter="\t" if tabs else ",")
    try:
        for row in rows:
            yield text_of(source, row, f"line {rows.line_num} of {path}")
    except csv.Error as error:
        raise source.fails(f"line {rows.line_num} of {path} is not CSV ({error})") from None


def _parquet_documents(source: Source, path: Path) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with tempfile.TemporaryFile() as whole:  # Parquet is read from its end
        compressed = path.suffix in (".gz", ".zst")
        if compressed:
            for block in _blocks(source, path):
                whole.write(block)
            whole.seek(0)
        try:
            table = pq.ParquetFile(whole if compressed else path)
            column = source.field.split(".")[0]
            if column not in table.schema_arrow.names:
                found = ", ".join(table.schema_arrow.names)
                raise source.fails(f"{path} has no field {source.field}; it has {found}")
            number = 0
            for batch in table.iter_batches(batch_size=16, columns=[column]):
                for record in batch.to_pylist():
                    number += 1
                    yield text_of(source, record, f"row {number} of {path}")
        except UnicodeDecodeError as error:
            raise source.fails(f"{path} holds text that is not UTF-8 ({error.reason})") from None
        except (pa.ArrowInvalid, OSError) as error:
            what = str(error).splitlines()[0]
            raise source.fails(f"{path} is damaged or not Parquet ({what})") from None


def _raw_documents(source: Source, facts: Path) -> Iterator[str]:
    """The samples that a facts file of `sample_store` lists."""
    content, samples = files.read_json(facts), replace(source, field="text")
    left = content["samples"]
    for part in content["parts"]:
        path = facts.parent / part["file"]
        if not path.is_file():
            raise source.fails(f"{path}, which {facts} lists, is gone; delete {facts}")
        digest = hashlib.sha256()
        for number, text in enumerate(_parquet_documents(samples, path)):
            digest.update(b"\0" * (number > 0) + text.encode())
            if left > 0:
                yield text
                left -= 1
        if digest.hexdigest() != part["sha256"]:
            raise source.fails(f"{path} is not what {facts} lists; delete both")


READERS: dict[str, Callable[[Source, Path], Iterator[str]]] = {
    "text": _text_documents,
    "jsonl": _json_documents,
    "csv": _csv_documents,
    "parquet": _parquet_documents,
    "raw": _raw_documents,
}
