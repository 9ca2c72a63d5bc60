"""What a corpus is made of, for the reader: `corpus.json` and a page in Markdown."""

from pathlib import Path

import numpy as np

from .. import QuernError, files


def summary(name, sources, settings, read: list[int], duplicates: np.ndarray, written) -> dict:
    """The content of `corpus.json`, from what `build.build` found.

    Args:
        read: documents of each source before anything was dropped.
        duplicates: exact duplicates dropped from each source.
    """
    parts = written.parts
    found = written.matches
    by_source, by_language = {}, {}
    for number, source in enumerate(sources):
        entry = by_source.setdefault(source.label, {"language": source.language, "read": 0})
        entry["read"] += read[number]
        entry["duplicates"] = entry.get("duplicates", 0) + int(duplicates[number])
        entry |= {"weight": source.weight, "part": source.part}
        language = by_language.setdefault(source.language or "unknown", {})
        for part in parts:
            counts = written.sources.get((part, number), {})
            for target in (entry, language):
                _add(target.setdefault(part, {"documents": 0, "characters": 0}), counts)
    for part, facts in parts.items():
        total = {"documents": 0, "characters": 0}
        for entry in by_source.values():
            _add(total, entry[part])
        parts[part] = total | facts
    return {
        "corpus": name,
        "seed": settings.seed,
        "order": settings.order,
        "chat_template": settings.chat_template,
        "duplicates_dropped": int(duplicates.sum()),
        "near_duplicates": {
            "similarity": settings.similarity,
            "near_duplicates": found["near-duplicate"],
            "quotations": found["quotation"],
            "removed": found.total() if settings.near_duplicates == "remove" else 0,
            "listed": written.listed,
        },
        "overlap": written.overlap,
        **parts,
        "sources": by_source,
        "languages": by_language,
    }


def _add(target: dict, counts: dict) -> None:
    for key in target:
        target[key] += counts.get(key, 0)


def require_whole(facts: dict, text: Path, documents: Path | None) -> None:
    """Refuse files of a corpus that are not those its `corpus.json` was written with.

    Args:
        text: one of its parts.
        documents: its table, where that is used.

    Raises:
        QuernError: the sentence names the file.
    """
    expected = {text: facts.get(text.stem, {}).get("sha256")}
    if documents:
        expected[documents] = facts.get("documents_sha256")
    for path, sha256 in expected.items():
        if files.sha256(path) != sha256:
            raise QuernError(
                f"{path} is not what its corpus was written with; delete it and run again."
            )


def write_markdown(path: Path, facts: dict) -> None:
    """Write the page."""
    lines = [
        f"# Corpus {facts['corpus']}",
        "",
        "| source | language | read | duplicates | evaluation | characters | pool | characters |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for label, entry in facts["sources"].items():
        counts = [entry["read"], entry["duplicates"], *_counts(entry)]
        cells = [label, entry["language"] or "–", *(f"{n:,}" for n in counts)]
        lines.append(f"| {' | '.join(cells)} |")
    total = [sum(e["read"] for e in facts["sources"].values()), facts["duplicates_dropped"]]
    cells = ["all", "", *(f"{n:,}" for n in [*total, *_counts(facts)])]
    lines.append(f"| {' | '.join(cells)} |")
    near = facts["near_duplicates"]
    lines += [
        "",
        f"Exact duplicates dropped: {facts['duplicates_dropped']:,}. Documents of the pool "
        f"that nearly repeat one for evaluation: {near['near_duplicates']:,}; "
        f"that quote one: {near['quotations']:,}; removed: {near['removed']:,}. "
        f"{facts['overlap']:.2%} of the evaluation part's n-grams occur in the pool.",
    ]
    with files.replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _counts(entry: dict) -> list[int]:
    keys = ("documents", "characters")
    return [entry[part][key] for part in ("evaluation", "pool") for key in keys]
