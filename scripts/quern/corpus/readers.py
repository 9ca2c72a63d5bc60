"""Documents in files: text, JSON lines, CSV, Parquet, and samples that were kept.

A new kind of file is a generator of documents and a line in `READERS`.
"""

import bz2
import codecs
import csv
import gzip
import hashlib
import itertools
import json
import logging
import lzma
import re
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
from .sources import FETCHED, Source, matching

log = logging.getLogger("quern.readers")

BLOCK = 1 << 20  # bytes read at a time
LONGEST_LINE = 64 << 20  # characters; whoever packs more into a line means no document
UNPACKED = (
    2000,
    1 << 30,
)  # times the size of a file, and bytes, beyond which it is no text but a bomb
LONGEST = 4 << 20  # characters of one document; a longer one is cut at an empty line
_ENDINGS = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
_ZSTANDARD = (".zst", ".zstd")
_OPEN = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}  # by ending
PACKED = (*_ZSTANDARD, *_OPEN)
_ARCHIVES = (".tar", ".tgz", ".tbz2", ".txz", ".zip", ".7z", ".rar")
_WINDOW = 1 << 31  # bytes that Zstandard may look back, as `zstd --long=31` writes it
_MARK = "\ufeff"  # of byte order
_HALF = re.compile("[\ud800-\udfff]")
_SPACE = re.compile(r"\s*")
_JSON_BEGINS = re.compile(r'\s*(\{\s*["}]|\[\s*[\[{"\]])')


def kind_of(source: Source, path: Path) -> str:
    """The kind of one of a source's files, as given or by its ending."""
    return source.kind or _ENDINGS.get(_ending(path), "text")


def _ending(path: Path) -> str:
    """A file's ending, before that of its compression."""
    return (Path(path.stem).suffix if path.suffix in PACKED else path.suffix).lower()


def paths(source: Source) -> list[Path]:
    """The files that a source's path names, in order.

    Raises:
        QuernError: there are none.
    """
    found = matching(source.path)
    if not found:
        raise source.fails(f"no file matches {source.path}")
    return found


def documents(source: Source) -> Iterator[conversations.Packed]:
    """The documents of a source, stripped of surrounding white space; empty ones left out.

    They are packed, see `conversations`.

    Raises:
        QuernError: no file matches, a file is damaged or not UTF-8, a record lacks the field, the
            source must be fetched first, or there is no text at all.
    """
    if source.kind in FETCHED:
        raise source.fails(f"kind {source.kind} must be fetched first, with fetch.py")
    empty = True
    for text in _file_documents(source):
        for document in _cut(source, text):
            if document:
                empty = False
                yield document
    if empty:
        raise source.fails(f"{source.path} hold no text")


def _cut(source: Source, text: str) -> Iterator[conversations.Packed]:
    """A document in pieces of at most LONGEST characters; a conversation stays whole."""
    if isinstance(text, conversations.Packed):
        if conversations.is_conversation(text):
            yield text
            return
        text = conversations.plain(text)
    for piece in _pieces(source, text):
        yield conversations.packed(piece)


def _file_documents(source: Source) -> Iterator[str]:
    for path in paths(source):
        if _ending(path) in _ARCHIVES:
            raise source.fails(f"{path} is an archive; unpack it and name the files in it")
        times, least = UNPACKED
        left = max(least, times * path.stat().st_size)
        if kind_of(source, path) == "raw":
            left = float("inf")  # a list of files that Quern wrote itself
        for text in READERS[kind_of(source, path)](source, path):
            left -= len(text)
            if left < 0:
                raise source.fails(f"{path} unpacks to more than {times} times its size")
            yield text


def _pieces(source: Source, text: str) -> Iterator[str]:
    """Pieces of at most LONGEST characters, cut at an empty line, a line or anywhere."""
    while len(text) > LONGEST:
        at = max(text.rfind("\n\n", 1, LONGEST), 0) or max(text.rfind("\n", 1, LONGEST), 0)
        log.warning("source %s: a document of %d characters is cut", source.label, len(text))
        yield text[: at or LONGEST]
        text = text[at or LONGEST :]
    yield text


def on_separator(source: Source, documents: int) -> tuple[int, str]:
    """How often a separator is found, and what to know where it cuts little or nothing.

    Args:
        documents: how many the source has; where they are many, nothing is said.
    """
    files_of = paths(source) if source.separator else []
    pieces = sum(1 + path.stat().st_size // LONGEST for path in files_of)
    if documents > 2 * pieces:
        return documents, ""
    found, returns = 0, False
    for path in files_of:
        tail = ""
        for text in _characters(source, path):
            found += (tail + text).count(source.separator)
            tail = text[len(text) - len(source.separator) + 1 :]
            returns |= "\r\n" in text
    if found:
        return found, f"its separator is found only {found} times in {source.path}"
    why = ""
    if returns and "\n" in source.separator and "\r" not in source.separator:
        why = r"; its lines end in \r\n, so write that in place of \n"
    elif "\\" in source.separator:
        why = r"; in YAML, \n is a line end between double quotes only"
    return 0, f"its separator {source.separator!r} is nowhere in {source.path}{why}"


# --- bytes and characters -------------------------------------------------------------------


def _blocks(source: Source, path: Path) -> Iterator[bytes]:
    """A file's content, decompressed by its ending, block by block."""
    try:
        if path.suffix in _ZSTANDARD:
            yield from _unpacked(path)
            return
        with _OPEN.get(path.suffix, open)(path, "rb") as file:
            while block := file.read(BLOCK):
                yield block
    except (EOFError, OSError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk, not the content
            raise
        raise source.fails(f"{path} is damaged or cut short ({error})") from None


def _unpacked(path: Path) -> Iterator[bytes]:
    """The content of all frames of a Zstandard file; the last one must have its end."""
    frame = None
    with open(path, "rb") as file:
        while packed := file.read(1 << 14):
            while packed:
                unpacker = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
                frame = frame or unpacker.decompressobj()
                yield frame.decompress(packed)
                packed, frame = (frame.unused_data, None) if frame.eof else (b"", frame)
    if frame:
        raise EOFError("its last frame has no end")


def _characters(source: Source, path: Path) -> Iterator[str]:
    """A file's text, block by block, without marks of byte order.

    One at the beginning is usual. Others are left from files that were joined, and are said.
    """
    decoder, done, inside = codecs.getincrementaldecoder("utf-8")(), 0, 0
    for block in itertools.chain(filter(None, _blocks(source, path)), [b""]):
        waiting = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            at = done - waiting + error.start
            raise source.fails(f"{path} is not UTF-8 at byte {at}; convert it first") from None
        text = text.removeprefix(_MARK) if done == 0 else text
        inside += text.count(_MARK)
        yield text.replace(_MARK, "")
        done += len(block)
    if inside:
        what = "marks of byte order (U+FEFF) within it are left out"
        log.warning("source %s: %s: %d %s", source.label, path, inside, what)


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
    for number, text in enumerate(_characters(source, path)):
        if number == 0 and not source.kind and _JSON_BEGINS.match(text):
            raise source.fails(
                f"{path} begins like JSON; say kind: json, or kind: text to take it as it is"
            )
        if source.separator:
            *documents, text = ("".join(parts) + text).split(source.separator)
            yield from documents
            parts, size = [], 0
        parts.append(text)
        size += len(text)
        if size > 2 * LONGEST:
            *pieces, rest = _pieces(source, "".join(parts))
            yield from pieces
            parts, size = [rest], len(rest)
    yield "".join(parts)


def text_of(source: Source, record, where: str) -> str:
    """The text of a record, or its messages, packed; empty where it is null.

    A field such as `{question}\\n{answer}` puts the text of several together.

    Raises:
        QuernError: the record has no such field, or it is neither text nor a list of messages.
    """
    try:
        found = {path: at_path(record, path) for path in source.fields}
    except LookupError as error:
        raise source.fails(f"{where} has {error}") from None
    if source.is_form:
        texts = {p: as_text(source, v, f"field {p} in {where}") for p, v in found.items()}
        if any(map(str.strip, texts.values())):
            return source.filled_in({p: conversations.plain(t) for p, t in texts.items()})
        return ""
    what = f"field {source.field} in {where}"
    return as_text(source, found[source.field], what, _beside(record, source.field))


def _beside(record, field: str) -> dict:
    """What a record holds beside a field, and the field."""
    parent = field.rpartition(".")[0]
    flat = not parent or (isinstance(record, dict) and field in record)
    found = record if flat else at_path(record, parent)
    return found if isinstance(found, dict) else {}


def as_text(source: Source, value, what: str, beside: dict | None = None) -> str:
    """A text as it is, a list of messages packed with what is `beside` it, and nothing for null.

    Messages may also be JSON in a text. Halves of surrogate pairs, which are no characters, are
    replaced by U+FFFD.

    Raises:
        QuernError: the value is something else; the sentence calls it `what`.
    """
    if isinstance(value, str) and value.lstrip().startswith("[") and (held := _held(value)):
        value = held
    if isinstance(value, list):
        try:
            value = conversations.pack(value, beside)
        except ValueError as error:
            raise source.fails(f"{what} is a list, but no conversation: {error}") from None
    if not isinstance(value, str | None):
        raise source.fails(f"{what} is {type(value).__name__}, not text")
    return _whole(source, value or "", what)


def _held(text: str) -> list | None:
    """The conversation that a text holds as JSON, if it does."""
    try:
        found = json.loads(text)
        conversations.pack(found)
    except (ValueError, TypeError, RecursionError):
        return None
    return found


def _whole(source: Source, text: str, what: str) -> str:
    if not _HALF.search(text):
        return text
    replaced = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    halves = replaced.count("\ufffd") - text.count("\ufffd")
    log.warning("source %s: %s: %d half surrogates become U+FFFD", source.label, what, halves)
    return type(text)(replaced)


def _json_documents(source: Source, path: Path) -> Iterator[str]:
    for number, line in enumerate(_lines(source, path), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise source.fails(f"line {number} of {path} is not JSON ({error})") from None
        yield text_of(source, record, f"line {number} of {path}")


def _value_documents(source: Source, path: Path) -> Iterator[str]:
    """The records of a JSON file: an array of them, or one after the other."""
    for number, record in enumerate(_values(source, path), 1):
        if isinstance(record, str):
            yield as_text(source, record, f"record {number} of {path}")
        else:
            yield text_of(source, record, f"record {number} of {path}")


class _Ahead:
    """A text that is read block by block, as far ahead as JSON values need it."""

    def __init__(self, blocks: Iterator[str]):
        self._blocks, self._text, self._at = blocks, "", 0

    def _more(self) -> bool:
        """Read until there is twice as much; whether there was any."""
        parts = [self._text[self._at :]]
        waiting, size = len(parts[0]), len(parts[0])
        for block in self._blocks:
            parts.append(block)
            size += len(block)
            if size > 2 * waiting:
                break
        self._text, self._at = "".join(parts), 0
        return size > waiting

    def next(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def skip(self, characters: int) -> None:
        """Pass over some that were looked at."""
        self._at += characters

    def value(self):
        """The next value; raises ValueError where there is none, or it is too long."""
        while True:
            try:
                value, end = json.JSONDecoder().raw_decode(self._text, self._at)
            except ValueError:
                if len(self._text) - self._at > LONGEST_LINE or not self._more():
                    raise
                continue
            length = end - self._at
            if end < len(self._text) or not self._more():
                self._at += length
                return value


def _values(source: Source, path: Path) -> Iterator:
    """The elements of a JSON file's array, or the values that stand one after the other."""
    ahead, number = _Ahead(_characters(source, path)), 0
    closing = "]" if ahead.next() == "[" else ""
    ahead.skip(len(closing))
    while ahead.next() != closing:
        number += 1
        try:
            if closing and number > 1:
                if ahead.next() != ",":
                    raise ValueError("a comma is missing before it")
                ahead.skip(1)
                ahead.next()
            value = ahead.value()
        except ValueError as error:
            what = f"record {number} of {path} is not JSON, or cut short ({error})"
            raise source.fails(what) from None
        yield value
    ahead.skip(len(closing))
    if ahead.next():
        raise source.fails(f"{path} goes on after the end of its array")


def _csv_documents(source: Source, path: Path) -> Iterator[str]:
    csv.field_size_limit(sys.maxsize)
    tabs = ".tsv" in path.suffixes
    lines = _lines(source, path)
    rows = csv.reader(lines, delimiter="\t" if tabs else ",", strict=True)
    names, begin = None, 1
    try:
        for row in rows:
            where, begin = f"line {begin} of {path}", rows.line_num + 1
            if not row:
                continue
            if names is None:
                names = row
                if twice := [name for name in source.fields if names.count(name) > 1]:
                    raise source.fails(f"{path} has the column {twice[0]} more than once")
            elif len(row) != len(names):
                raise source.fails(f"{where} has {len(row)} cells, the header {len(names)}")
            else:
                yield text_of(source, dict(zip(names, row, strict=True)), where)
    except csv.Error as error:
        raise source.fails(
            f"the row that begins in line {begin} of {path} is not CSV ({error})"
        ) from None


def _parquet_documents(source: Source, path: Path) -> Iterator[str]:
    for number, record in enumerate(_parquet_records(source, path), 1):
        yield text_of(source, record, f"row {number} of {path}")


def columns_of(source: Source, names: list[str], path: Path | str) -> list[str]:
    """The columns of a table that are read: the source's fields, and what may be beside messages.

    Raises:
        QuernError: a field is not among the names.
    """
    columns = []
    for field in source.fields:
        columns.append(field if field in names else field.split(".")[0])
        if columns[-1] not in names:
            raise source.fails(f"{path} has no field {field}; it has {', '.join(names)}")
    columns += [] if source.is_form else [name for name in conversations.BESIDE if name in names]
    return list(dict.fromkeys(columns))


def _parquet_records(source: Source, path: Path) -> Iterator[dict]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with tempfile.TemporaryFile() as whole:  # Parquet is read from its end
        compressed = path.suffix in PACKED
        if compressed:
            for block in _blocks(source, path):
                whole.write(block)
            whole.seek(0)
        try:
            table = pq.ParquetFile(whole if compressed else path)
            columns = columns_of(source, table.schema_arrow.names, path)
            for batch in table.iter_batches(batch_size=16, columns=columns):
                yield from batch.to_pylist()
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
        for number, record in enumerate(_parquet_records(samples, path)):
            text = record["text"]
            digest.update(b"\0" * (number > 0) + text.encode())
            if left > 0:
                yield conversations.Packed(text)
                left -= 1
        if digest.hexdigest() != part["sha256"]:
            raise source.fails(f"{path} is not what {facts} lists; delete both")


READERS: dict[str, Callable[[Source, Path], Iterator[str]]] = {
    "text": _text_documents,
    "json": _value_documents,
    "jsonl": _json_documents,
    "csv": _csv_documents,
    "parquet": _parquet_documents,
    "raw": _raw_documents,
}
