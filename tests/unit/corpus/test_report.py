"""The report's figures are those of the files beside it."""

import hashlib

import pandas as pd
import pytest

from quern import files
from quern.corpus import build, report
from quern.corpus.build import CorpusSettings
from quern.corpus.sources import Source

SEPARATOR = "\n%%\n"
PARTS = ("evaluation", "pool")


def written(path, texts):
    path.parent.mkdir(exist_ok=True)
    path.write_text(SEPARATOR.join(texts))
    return str(path)


@pytest.fixture(scope="module")
def contents(texts):
    """Documents of each source, two of which are of one name in two languages."""
    return {
        "books/en": [*texts[:12], *texts[:3]],
        "books/de": [f"Ä {text}" for text in texts[12:20]],
        "bare": [*texts[20:30], texts[0]],
        "whole": [*texts[30:36], *(f"{text} and no more" for text in texts[:12])],
    }


@pytest.fixture(scope="module", params=["report", "remove"])
def built(request, contents, tmp_path_factory):
    """The folder of a corpus, and what `build` says of it."""
    folder = tmp_path_factory.mktemp("report")
    paths = {name: written(folder / "in" / f"{name.replace('/', '-')}.txt", texts)
             for name, texts in contents.items()}  # fmt: skip
    languages = {"books/en": "en", "books/de": "de"}
    sources = [
        Source(
            name.partition("/")[0],
            path,
            separator=SEPARATOR,
            language=languages.get(name, ""),
            part="pool" if name == "whole" else "",
        )
        for name, path in paths.items()
    ]
    settings = CorpusSettings(25_000, seed=3, near_duplicates=request.param)
    return folder / "c", build.build(sources, folder / "c", settings)


@pytest.fixture(scope="module")
def documents(built):
    """Every document that was written, with its characters."""
    folder, _ = built
    table = pd.read_csv(folder / "documents.csv", keep_default_na=False)
    content = {part: (folder / f"{part}.txt").read_bytes() for part in PARTS}
    pieces = [
        content[part][start : start + size]
        for part, start, size in zip(table.part, table.offset, table.bytes, strict=True)
    ]
    assert [hashlib.sha256(piece).hexdigest() for piece in pieces] == table.sha256.tolist()
    return table.assign(characters=[len(piece.decode()) for piece in pieces])


def test_what_is_returned_is_what_is_written(built):
    folder, facts = built
    assert files.read_json(folder / "corpus.json") == facts


def test_parts_are_those_of_their_files(built, documents):
    folder, facts = built
    for part in PARTS:
        content, rows = (folder / f"{part}.txt").read_bytes(), documents[documents.part == part]
        assert facts[part] == {
            "documents": len(rows),
            "characters": rows.characters.sum(),
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        assert len(rows) > 1


def test_sources_and_languages_are_those_of_the_documents(built, documents):
    _, facts = built
    for part in PARTS:
        rows = documents[documents.part == part]
        for column, key, absent in (("source", "sources", None), ("language", "languages", "")):
            for label, entry in facts[key].items():
                name = absent if label == "unknown" else label
                some = rows[rows[column] == name]
                expected = {"documents": len(some), "characters": some.characters.sum()}
                assert entry[part] == expected
        assert set(rows.source) <= set(facts["sources"])


def test_every_document_is_written_or_accounted_for(built, contents):
    _, facts = built
    sources, near = facts["sources"], facts["near_duplicates"]
    assert {name: entry["read"] for name, entry in sources.items()} == {
        name: len(texts) for name, texts in contents.items()
    }
    left = sum(
        entry["read"] - entry["duplicates"] - sum(entry[part]["documents"] for part in PARTS)
        for entry in sources.values()
    )
    assert left == near["removed"]
    every = [text for texts in contents.values() for text in texts]
    assert facts["duplicates_dropped"] == len(every) - len(set(every)) == 4
    assert sum(entry["duplicates"] for entry in sources.values()) == 4
    assert sources["whole"]["evaluation"]["documents"] == 0


def test_what_is_listed_is_there(built, documents):
    """The hash of a document of the pool, and of one for evaluation, for every match."""
    _, facts = built
    near = facts["near_duplicates"]
    matches = near["near_duplicates"] + near["quotations"]
    assert 0 < len(near["listed"]) == matches <= build.LISTED
    hashes = {part: set(documents.sha256[documents.part == part]) for part in PARTS}
    for match in near["listed"]:
        assert match["evaluation_sha256"] in hashes["evaluation"]
        assert (match["pool_sha256"] in hashes["pool"]) == (near["removed"] == 0)


def cells(line):
    return [cell.strip() for cell in line.strip("|\n").split("|")]


def numbers(row):
    return [int(cell.replace(",", "")) for cell in row]


def test_the_page_says_the_same(built):
    folder, facts = built
    title, _, head, rule, *rest = (folder / "corpus.md").read_text().splitlines()
    assert title == "# Corpus c"
    count = len(facts["sources"])
    rows = {label: row for label, *row in map(cells, rest[: count + 1])}
    assert list(rows) == [*facts["sources"], "all"]
    assert {len(row) for row in rows.values()} == {len(cells(head)) - 1} == {len(cells(rule)) - 1}
    for label, entry in facts["sources"].items():
        language, *found = rows[label]
        assert language == (entry["language"] or "–")
        parts = [entry[part][key] for part in PARTS for key in ("documents", "characters")]
        assert numbers(found) == [entry["read"], entry["duplicates"], *parts]
    of_sources = [numbers(row[1:]) for label, row in rows.items() if label != "all"]
    assert numbers(rows["all"][1:]) == [sum(column) for column in zip(*of_sources, strict=True)]
    near, sentence = facts["near_duplicates"], rest[count + 2]
    for said in (
        f"duplicates dropped: {facts['duplicates_dropped']}.",
        f"for evaluation: {near['near_duplicates']};",
        f"quote one: {near['quotations']};",
        f"removed: {near['removed']}.",
        f"{100 * facts['overlap']:.2f}% of",
    ):
        assert said in sentence


def test_the_page_is_the_same_from_the_file(built, tmp_path):
    folder, _ = built
    facts = files.read_json(folder / "corpus.json")
    report.write_markdown(tmp_path / "again.md", facts)
    assert (tmp_path / "again.md").read_bytes() == (folder / "corpus.md").read_bytes()
