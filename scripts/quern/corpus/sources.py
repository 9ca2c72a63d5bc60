"""What a source of documents is, and the documents in files: text, JSON lines, CSV, Parquet.

Sources that must be fetched first (data sets, OSCAR, plugins) are described here as well; `samples`
reads them and `raw` keeps what was read, which is then a source of kind `raw`.
"""

import ast
import codecs
import csv
import dataclasses
import glob
import gzip
import itertools
import json
import logging
import sys
import sysconfig
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import zstandard

from . import QuernError, conversations, files
from .plugin_base import at_path

log = logging.getLogger("quern.sources")

BLOCK = 1 << 20  # bytes read at a time
LONGEST = 4 << 20  # characters of one document; a longer one is cut at an empty line
FETCHED = ("dataset", "oscar", "plugin")
PLACEHOLDER = "{lang}"
_ENDINGS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}


@dataclass(frozen=True)
class Source:
    """Where documents of one language (or of none in particular) come from.

    Attributes:
        name: appears in reports.
        path: a file or a glob pattern; a data set's name or folder; a plugin's file.
        kind: a key of `READERS` or one of `FETCHED`; by the file's ending where it is empty.
        field: the dotted path of the text in a record.
        separator: cuts a text file into documents; the whole file is one where it is empty.
        part: `evaluation` or `pool` for a source that goes there whole; split where empty.
        language: what `{lang}` in a path stands for; part of the source's label.
        weight: its share of the tokens, relative to the other sources; None for as it comes.
        samples, skip: how many samples are fetched, None for all, and how many are passed over.
        configuration, split, revision, data_files, streaming: as for `datasets.load_dataset`.
        plugin_class, options: the class in a plugin's file, and what it is made with.
        content: hashes of the local files behind a fetched source.
    """

    name: str
    path: str = ""
    kind: str = ""
    field: str = "text"
    separator: str = ""
    part: str = ""
    language: str = ""
    weight: float | None = None
    samples: int | None = None
    skip: int = 0
    configuration: str | None = None
    split: str = "train"
    revision: str | None = None
    data_files: str | None = None
    streaming: bool = True
    plugin_class: str = "DataSourcePlugin"
    options: dict = dataclasses.field(default_factory=dict)
    content: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The name, with the language where there is one."""
        return f"{self.name}/{self.language}" if self.language else self.name

    def fails(self, what: str) -> QuernError:
        """An error that names the source."""
        return QuernError(f"source {self.label}: {what}.")


def expand(entry: dict) -> list[Source]:
    """A source of the configuration as one `Source` a language.

    Raises:
        QuernError: a key does not go with the kind, or one is missing.
    """
    entry = dict(entry)
    languages = entry.pop("languages", None) or [""]
    try:
        source = Source(**{"plugin_class" if k == "class" else k: v for k, v in entry.items()})
    except TypeError as error:
        raise QuernError(f"source {entry.get('name', entry)}: {error}.") from None
    if source.kind == "oscar":
        source = replace(source, path=source.path or "hf://datasets/oscar-corpus/OSCAR-2301")
        source = replace(source, field="content" if source.field == "text" else source.field)
    if not source.path and source.kind != "python":
        raise source.fails("it has no path")
    if source.kind in ("oscar", "plugin") and not languages[0]:
        raise source.fails(f"kind {source.kind} needs languages, such as [en, de]")
    if source.kind == "oscar" and source.samples is None:
        raise source.fails("kind oscar needs the number of samples; all of it is terabytes")
    local = source.kind not in (*FETCHED, "raw")
    if local and (source.samples is not None or source.skip):
        raise source.fails("samples and skip are for what is fetched, not for local files")
    texts = (source.path, source.configuration or "", source.split, source.data_files or "")
    named = source.kind in ("oscar", "plugin") or any(PLACEHOLDER in text for text in texts)
    if len(languages) > 1 and not named:
        raise source.fails(f"of several languages, but {PLACEHOLDER} says nowhere which files")
    if not languages[0] and any(PLACEHOLDER in text for text in texts):
        raise source.fails(f"{PLACEHOLDER} stands for a language, but there are no languages")
    weight = source.weight / len(languages) if source.weight else source.weight
    return [_of_language(replace(source, weight=weight), language) for language in languages]


def entry_of(source: Source) -> dict:
    """A source of one language as the configuration would have it, the inverse of `expand`."""
    entry = {f.name: getattr(source, f.name) for f in dataclasses.fields(Source)}
    language = entry.pop("language")
    entry["class"] = entry.pop("plugin_class")
    return entry | {"languages": [language] if language else None}


def _of_language(source: Source, language: str) -> Source:
    def filled(text):
        return text.replace(PLACEHOLDER, language) if text else text

    return replace(
        source,
        language=language,
        path=filled(source.path),
        configuration=filled(source.configuration),
        split=filled(source.split),
        data_files=filled(source.data_files),
    )


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
    if source.kind == "python":
        where, texts = "Python's documentation", _python_documents()
    else:
        where, texts = source.path, _file_documents(source)
    empty = True
    for text in texts:
        for document in _cut(source, text):
            if document := document.strip():
                empty = False
                yield document
    if empty:
        raise source.fails(f"{where} hold no text")


def _file_documents(source: Source) -> Iterator[str]:
    for path in paths(source):
        yield from READERS[kind_of(source, path)](source, path)


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
    rest = ""
    for text in _characters(source, path):
        *lines, rest = (rest + text).split("\n")
        yield from (f"{line}\n" for line in lines)
    if rest:
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
            for batch in table.iter_batches(batch_size=256, columns=[column]):
                for record in batch.to_pylist():
                    number += 1
                    yield text_of(source, record, f"row {number} of {path}")
        except UnicodeDecodeError as error:
            raise source.fails(f"{path} holds text that is not UTF-8 ({error.reason})") from None
        except (pa.ArrowInvalid, OSError) as error:
            what = str(error).splitlines()[0]
            raise source.fails(f"{path} is damaged or not Parquet ({what})") from None


def _raw_documents(source: Source, facts: Path) -> Iterator[str]:
    """The samples that a facts file of `raw` lists."""
    content, samples = files.read_json(facts), replace(source, field="text")
    left = content["samples"]
    for part in content["parts"]:
        path = facts.parent / part["file"]
        if not path.is_file():
            raise source.fails(f"{path}, which {facts} lists, is gone; delete {facts}")
        number = 0
        for text in itertools.islice(_parquet_documents(samples, path), left):
            yield text
            number += 1
        if number < min(left, part["samples"]):
            raise source.fails(f"{path} has {number} samples, not what {facts} lists; delete both")
        left -= number


READERS: dict[str, Callable[[Source, Path], Iterator[str]]] = {
    "text": _text_documents,
    "jsonl": _json_documents,
    "csv": _csv_documents,
    "parquet": _parquet_documents,
    "raw": _raw_documents,
}


# --- Python's own documentation -------------------------------------------------------------


def _python_documents() -> Iterator[str]:
    """The topics of `pydoc`'s help and each standard module's docstrings, of this Python."""
    from pydoc_data.topics import topics

    yield from (topics[name] for name in sorted(topics))
    library = Path(sysconfig.get_path("stdlib"))
    skipped = {"site-packages", "test", "tests", "idlelib", "pydoc_data", "lib2to3"}
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for path in sorted(library.rglob("*.py")):
        if skipped & set(path.relative_to(library).parts):
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue
        strings = (ast.get_docstring(n) for n in ast.walk(tree) if isinstance(n, documented))
        yield "\n\n".join(filter(None, strings))
