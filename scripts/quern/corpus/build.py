"""Corpora: documents from named sources, split into an evaluation part and a calibration pool.

A part is one plain text file, as llama.cpp's tools read it: documents separated by an empty line.
Texts pass through a spool on disk, so memory grows with the number of documents alone.
"""

import contextlib
import csv
import hashlib
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .. import files
from ..command import option
from . import conversations, report
from .overlap import Match, Overlap
from .readers import documents, on_separator, paths
from .sources import Source, require_sense
from .spool import Spool

log = logging.getLogger("quern.corpus")

PARTS = ("evaluation", "pool")
ORDERS = ("structured", "shuffled", "random-windows")
SEPARATOR = "\n\n"
LISTED = 20  # near-duplicates and quotations that are described
# A document's place is its number in the order of the sources.
COLUMNS = ("part", "source", "language", "offset", "bytes", "sha256", "place")
_EVALUATION, _POOL = range(2)


@dataclass(frozen=True)
class CorpusSettings:
    """How a corpus is split."""

    evaluation_characters: int = option(
        "characters of documents for evaluation, at most; the rest is the pool", 300_000
    )
    seed: int = option("decides the order of documents, and so which are for evaluation", 0)
    # Random windows are cut later, from tokens.
    order: str = option(
        "order of documents within each part; structured keeps that of their sources",
        "shuffled",
        choices=ORDERS,
    )
    near_duplicates: str = option(
        "what to do with documents of the pool that nearly repeat one for evaluation",
        "report",
        choices=("report", "remove"),
    )
    similarity: float = option(
        "share of common n-grams from which on two documents are near-duplicates", 0.7
    )
    chat_template: bool = option(
        "keep who says what in conversations, for tokens.py --chat-template; otherwise their "
        "messages are put one after the other",
        False,
    )


def build(sources: list[Source], directory: Path, settings: CorpusSettings) -> dict:
    """Write `evaluation.txt`, `pool.txt`, `documents.csv`, `corpus.json` and `corpus.md`.

    Documents are put in an order that depends on their text and the seed alone. The first ones,
    up to `evaluation_characters`, are the evaluation part; the others are the pool. Where sources
    have weights, each gives its share of those characters. A document that occurs twice is kept
    once, so the parts are disjoint.

    Returns:
        The content of `corpus.json`.

    Raises:
        QuernError: a source is unreadable or has no text, there are too many, or not all that are
            split have weights.
    """
    require_sense(sources)
    with Spool(directory, settings.seed) as spool:
        read = _gather(sources, spool, settings)
        entries = spool.entries()
        kept, repeated = _shuffled(entries)
        part = _split(entries, kept, sources, settings.evaluation_characters)
        chosen = [kept[part == number] for number in range(len(PARTS))]
        if settings.order == "structured":
            chosen = [np.sort(numbers) for numbers in chosen]
        _say_of_one_document(chosen, settings.order)
        written = _write(spool, entries, chosen, sources, directory, settings)
    duplicates = np.bincount(entries["source"][repeated], minlength=len(sources))
    summary = report.summary(directory.name, sources, settings, read, duplicates, written)
    summary["documents_sha256"] = files.sha256(directory / "documents.csv")
    files.write_json(directory / "corpus.json", summary)
    report.write_markdown(directory / "corpus.md", summary)
    return summary


def _gather(sources: list[Source], spool: Spool, settings: CorpusSettings) -> list[int]:
    """Spool every document; return how many each source has."""
    read = [0] * len(sources)
    with tqdm(unit="B", unit_scale=True, desc="read", disable=None) as bar:
        for number, source in enumerate(sources):
            for text in documents(source):
                text = text if settings.chat_template else conversations.plain(text)
                bar.update(spool.add(number, text))
                read[number] += 1
            found, said = on_separator(source, read[number])
            if said and not found and len(sources) == len(paths(source)) == 1:
                raise source.fails(f"the corpus is in one piece: {said}")
            if said:
                log.warning("source %s: %s", source.label, said)
    return read


def _shuffled(entries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the documents in the order of their keys, and of those that repeat one."""
    order = np.lexsort((entries["low"], entries["high"]))  # stable: the first one is kept
    repeated = np.ones(len(order), bool)
    repeated[:1] = False
    for half in ("high", "low"):
        keys = entries[half][order]
        repeated[1:] &= keys[1:] == keys[:-1]
    return order[~repeated], order[repeated]


def _split(
    entries: np.ndarray, kept: np.ndarray, sources: list[Source], characters: int
) -> np.ndarray:
    """The part of each of the `kept` documents, in their shuffled order, int8 [n]."""
    fixed = np.array([PARTS.index(s.part) if s.part else -1 for s in sources], np.int8)
    source = entries["source"][kept]
    part = fixed[source]
    size = entries["characters"][kept].astype(np.int64)
    left = characters - size[part == _EVALUATION].sum()
    weights = np.array([s.weight or 0.0 for s in sources]) * (fixed < 0)
    groups = [np.flatnonzero(part < 0)]
    limits = [left]
    if weights.any():
        groups = [np.flatnonzero((part < 0) & (source == s)) for s in range(len(fixed))]
        limits = left * weights / weights.sum()
    for group, limit in zip(groups, limits, strict=True):
        before = np.cumsum(size[group]) - size[group]
        part[group] = np.where(before < limit, _EVALUATION, _POOL)
    return part


def _say_of_one_document(chosen: list[np.ndarray], order: str) -> None:
    """Windows of a part are its first ones, which are its beginning where nothing is shuffled."""
    for name, numbers in zip(PARTS, chosen, strict=True):
        is_cut = order == "random-windows" and name == PARTS[_POOL]
        if len(numbers) == 1 and not is_cut:
            log.warning(
                "the part %s is one document: where `windows` takes some of it, they are its "
                "beginning",
                name,
            )


@dataclass
class Written:
    """What the parts hold, and what was found while they were written.

    Attributes:
        parts: documents, characters, bytes and SHA-256 of each part.
        sources: documents and characters by part and number of the source.
        matches: how many near-duplicates and quotations of evaluated documents the pool had.
        listed: the first of them, with the hashes of both documents.
        overlap: the share of the evaluation part's n-grams that occur in the pool.
    """

    parts: dict[str, dict]
    sources: dict[tuple[str, int], Counter]
    matches: Counter
    listed: list[dict]
    overlap: float

    def count(self, part: str, source: int, characters: int) -> None:
        """Count a document that was written."""
        counts = self.sources.setdefault((part, source), Counter())
        counts["documents"] += 1
        counts["characters"] += characters

    def note(self, match: Match, source: Source, text: bytes, other: bytes) -> None:
        """Note that a text of the pool matches another one, for evaluation."""
        self.matches[match.kind] += 1
        if len(self.listed) < LISTED:
            self.listed.append(
                {
                    "kind": match.kind,
                    "share": match.share,
                    "source": source.label,
                    "pool_sha256": hashlib.sha256(text).hexdigest(),
                    "evaluation_sha256": hashlib.sha256(other).hexdigest(),
                }
            )


def _write(spool, entries, chosen, sources, directory, settings) -> Written:
    """Write both parts and the table. Each text of the pool is compared with the evaluation part.

    Args:
        entries: the spool's.
        chosen: numbers of the documents of each part, in their order.
    """
    evaluation = (spool.read(entries[i]) for i in chosen[_EVALUATION])
    overlap = Overlap(evaluation, settings.similarity, settings.near_duplicates)
    written = Written({}, {}, Counter(), [], 0.0)
    total = sum(int(entries["bytes"][numbers].sum(dtype=np.int64)) for numbers in chosen)
    with (
        contextlib.ExitStack() as stack,
        tqdm(total=total, unit="B", unit_scale=True, desc="write", disable=None) as bar,
    ):
        paths = [directory / "documents.csv", *(directory / f"{name}.txt" for name in PARTS)]
        temporary, *texts = [stack.enter_context(files.replacing(path)) for path in paths]
        table = csv.writer(stack.enter_context(open(temporary, "w", newline="", encoding="utf-8")))
        table.writerow(COLUMNS)
        for number, name in enumerate(PARTS):
            with _Part(texts[number]) as file:
                for place in chosen[number].tolist():
                    entry = entries[place]
                    text, source = spool.read(entry), sources[entry["source"]]
                    bar.update(len(text))
                    match = overlap.match(text) if number == _POOL else None
                    if match:
                        other = spool.read(entries[chosen[_EVALUATION][match.document]])
                        written.note(match, source, text, other)
                        if settings.near_duplicates == "remove":
                            continue
                    offset, digest = file.add(text), hashlib.sha256(text).hexdigest()
                    row = (name, source.label, source.language, offset, len(text), digest, place)
                    table.writerow(row)
                    written.count(name, int(entry["source"]), int(entry["characters"]))
            written.parts[name] = file.facts
    written.overlap = overlap.share
    return written


class _Part:
    """A part's text file as it grows."""

    def __init__(self, path: Path):
        self._file = open(path, "wb")  # noqa: SIM115 - closed by __exit__
        self._digest, self._size, self.facts = hashlib.sha256(), 0, {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()
        self.facts = {"bytes": self._size, "sha256": self._digest.hexdigest()}

    def add(self, text: bytes) -> int:
        """Append a document; return the byte at which it begins."""
        for piece in (SEPARATOR.encode(), text) if self._size else (text,):
            self._file.write(piece)
            self._digest.update(piece)
            self._size += len(piece)
        return self._size - len(text)
