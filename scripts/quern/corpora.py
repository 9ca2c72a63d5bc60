"""Corpora: documents from named sources, split into an evaluation part and a calibration pool.

A part is one plain text file, as a peer's tool would read it: documents separated by an empty
line. Each source kind is a generator of documents; a new kind is one more entry in `READERS`.
"""

import glob
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from . import QuernError, files

PARTS = ("evaluation", "pool")
SEPARATOR = "\n\n"


@dataclass(frozen=True)
class Source:
    """Where documents come from.

    Attributes:
        name: appears in reports.
        path: a file or a glob pattern.
        kind: a key of `READERS`; by the file's ending where it is not given.
        field: the dotted path of the text in a JSON record.
        separator: cuts a text file into documents; the whole file is one where it is empty.
        part: `evaluation` or `pool` for a source that goes there whole; split where empty.
    """

    name: str
    path: str
    kind: str = ""
    field: str = "text"
    separator: str = ""
    part: str = ""


def _text_documents(source: Source, path: Path) -> Iterator[str]:
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise QuernError(
            f"source {source.name}: {path} is not UTF-8 at byte {error.start}; convert it first."
        ) from None
    yield from text.split(source.separator) if source.separator else [text]


def _json_documents(source: Source, path: Path) -> Iterator[str]:
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise QuernError(
                    f"source {source.name}: line {number} of {path} is not JSON ({error})."
                ) from None
            yield _dotted(source, record, f"line {number} of {path}")


def _dotted(source: Source, record, where: str) -> str:
    value = record
    for key in source.field.split("."):
        if isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        elif isinstance(value, dict) and key in value:
            value = value[key]
        else:
            found = ", ".join(record) if isinstance(record, dict) else type(record).__name__
            raise QuernError(
                f"source {source.name}: {where} has no field {source.field}; it has {found}."
            )
    if not isinstance(value, str):
        raise QuernError(
            f"source {source.name}: field {source.field} in {where} is {type(value).__name__}, "
            "not text."
        )
    return value


READERS: dict[str, Callable[[Source, Path], Iterator[str]]] = {
    "text": _text_documents,
    "jsonl": _json_documents,
}


def documents(source: Source) -> Iterator[str]:
    """The documents of a source, stripped of surrounding white space; empty ones left out.

    Raises:
        QuernError: no file matches, a file is not UTF-8, a record lacks the field.
    """
    paths = sorted(Path(p) for p in glob.glob(source.path, recursive=True))
    if not paths:
        raise QuernError(f"source {source.name}: no file matches {source.path}.")
    for path in paths:
        kind = source.kind or ("jsonl" if path.suffix in (".jsonl", ".ndjson") else "text")
        for text in READERS[kind](source, path):
            if text := text.strip():
                yield text


def build(sources: list[Source], directory: Path, *, evaluation_characters: int, seed: int) -> dict:
    """Write `evaluation.txt`, `pool.txt`, `documents.csv` and `corpus.json`.

    Documents are put in an order that depends on their text and the seed alone. The first ones,
    up to `evaluation_characters`, are the evaluation part; the others are the pool. A document
    that occurs twice is kept once, so the parts are disjoint.

    Returns:
        The content of `corpus.json`.

    Raises:
        QuernError: a source is unreadable, or there is no text at all.
    """
    found: dict[bytes, tuple[str, str, str]] = {}
    duplicates = 0
    for source in sources:
        for text in documents(source):
            key = hashlib.sha256(f"{seed}\n{text}".encode()).digest()
            duplicates += key in found
            found.setdefault(key, (source.name, source.part, text))
    if not found:
        raise QuernError(f"corpus {directory.name}: its sources hold no text.")

    parts: dict[str, list[tuple[str, str]]] = {part: [] for part in PARTS}
    taken = sum(len(text) for _, part, text in found.values() if part == "evaluation")
    for key in sorted(found):
        name, part, text = found[key]
        if not part:
            part = "evaluation" if taken < evaluation_characters else "pool"
            taken += len(text) if part == "evaluation" else 0
        parts[part].append((name, text))

    rows = []
    summary = {"corpus": directory.name, "seed": seed, "duplicates_dropped": duplicates}
    for part, texts in parts.items():
        content = SEPARATOR.join(text for _, text in texts).encode()
        path = directory / f"{part}.txt"
        with files.replacing(path) as temporary:
            temporary.write_bytes(content)
        summary[part] = {
            "documents": len(texts),
            "characters": sum(len(text) for _, text in texts),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        offset = 0
        for name, text in texts:
            size = len(text.encode())
            rows.append((part, name, offset, size, hashlib.sha256(text.encode()).hexdigest()))
            offset += size + len(SEPARATOR)
    table = pd.DataFrame(rows, columns=["part", "source", "offset", "bytes", "sha256"])
    summary["sources"] = {
        name: {part: int(((table.source == name) & (table.part == part)).sum()) for part in PARTS}
        for name in dict.fromkeys(source.name for source in sources)
    }
    with files.replacing(directory / "documents.csv") as temporary:
        table.to_csv(temporary, index=False)
    files.write_json(directory / "corpus.json", summary)
    return summary
