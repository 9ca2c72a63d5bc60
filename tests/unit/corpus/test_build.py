"""Splitting by whole documents, duplicates exact and near, and what the report says."""

import json
import subprocess
import sys

import pandas as pd
import pytest

from conftest import HOUSE
from quern import QuernError, files
from quern.corpus import build
from quern.corpus.build import CorpusSettings
from quern.corpus.sources import Source


@pytest.fixture
def sources(tmp_path, texts):
    (tmp_path / "a.txt").write_text("\n%%\n".join(texts[:20]))
    records = [json.dumps({"turns": [{"text": t}]}) for t in texts[20:50]]
    (tmp_path / "b.jsonl").write_text("\n".join(records) + "\n\n")
    return [
        Source("a", str(tmp_path / "a.txt"), separator="\n%%\n"),
        Source("b", str(tmp_path / "b*.jsonl"), field="turns.0.text"),
    ]


def parts_of(folder):
    table = pd.read_csv(folder / "documents.csv")
    found = {}
    for part in build.PARTS:
        content = (folder / f"{part}.txt").read_bytes()
        rows = table[table.part == part]
        found[part] = [
            content[o : o + n].decode() for o, n in zip(rows.offset, rows.bytes, strict=True)
        ]
        assert "\n\n".join(found[part]).encode() == content
    return found


def one(path, texts, **options):
    """A source of these documents."""
    path.write_text("\n%%\n".join(texts))
    return Source(path.stem, str(path), separator="\n%%\n", **options)


def test_parts_are_disjoint_and_hold_every_document_once(tmp_path, sources, texts):
    summary = build.build(sources, tmp_path / "c", CorpusSettings(40_000, seed=1))
    parts = parts_of(tmp_path / "c")
    assert sorted(parts["evaluation"] + parts["pool"]) == sorted(texts[:50])
    sizes = [len(t) for t in parts["evaluation"]]
    assert sum(sizes) - sizes[-1] < 40_000 <= sum(sizes)
    a = summary["sources"]["a"]
    assert a["evaluation"]["documents"] + a["pool"]["documents"] == a["read"] == 20
    assert summary["evaluation"]["characters"] == sum(sizes)
    assert files.read_json(tmp_path / "c/corpus.json") == summary


def test_same_seed_same_bytes_other_seed_other_split(tmp_path, sources):
    for name, seed, order in (("x", 1, 1), ("y", 1, -1), ("z", 2, 1)):
        build.build(sources[::order], tmp_path / name, CorpusSettings(40_000, seed=seed))
    x, y, z = ((tmp_path / name / "evaluation.txt").read_bytes() for name in "xyz")
    assert x == y != z


def test_structured_order_is_that_of_the_sources_with_the_same_split(tmp_path, sources, texts):
    build.build(sources, tmp_path / "x", CorpusSettings(40_000))
    build.build(sources, tmp_path / "y", CorpusSettings(40_000, order="structured"))
    shuffled, structured = parts_of(tmp_path / "x"), parts_of(tmp_path / "y")
    for part in build.PARTS:
        assert structured[part] == sorted(shuffled[part], key=texts.index) != shuffled[part]


def test_a_part_of_one_document_is_said(tmp_path, texts, caplog):
    """Windows of it are its beginning, unless they are drawn at random."""
    book = one(tmp_path / "book.txt", texts[20:21], part="pool")
    other = one(tmp_path / "other.txt", texts[:20], part="evaluation")
    build.build([book, other], tmp_path / "c", CorpusSettings())
    assert caplog.text.count("the part pool is one document") == 1
    caplog.clear()
    build.build([book, other], tmp_path / "d", CorpusSettings(order="random-windows"))
    assert "is one document" not in caplog.text


def test_duplicates_are_kept_once(tmp_path, sources, texts):
    summary = build.build(sources + sources[:1], tmp_path / "c", CorpusSettings(0))
    assert summary["duplicates_dropped"] == 20
    assert sorted(parts_of(tmp_path / "c")["pool"]) == sorted(texts[:50])


def test_a_source_can_go_to_one_part_whole(tmp_path, sources, texts):
    whole = [Source("a", sources[0].path, separator="\n%%\n", part="evaluation"), sources[1]]
    build.build(whole, tmp_path / "c", CorpusSettings(0))
    assert sorted(parts_of(tmp_path / "c")["evaluation"]) == sorted(texts[:20])


def test_weights_share_out_the_evaluation_part(tmp_path, texts):
    sources = [one(tmp_path / "a.txt", texts[:40], weight=3.0)]
    sources += [one(tmp_path / "b.txt", texts[40:70], weight=1.0)]
    summary = build.build(sources, tmp_path / "c", CorpusSettings(40_000))
    a, b = (summary["sources"][name]["evaluation"]["characters"] for name in "ab")
    longest = max(map(len, texts[:70]))
    assert 30_000 <= a < 30_000 + longest and 10_000 <= b < 10_000 + longest


def test_one_weight_is_not_enough(tmp_path, sources):
    weighted = [Source("w", sources[0].path, weight=1.0), sources[1]]
    with pytest.raises(QuernError, match="source b: it has no weight, but others have"):
        build.build(weighted, tmp_path / "c", CorpusSettings(0))


@pytest.fixture
def leaking(tmp_path, texts):
    """A pool with a near-duplicate of one document for evaluation, and a quotation of another."""
    words = texts[0].split()
    near = " ".join("other" if i % 40 == 7 else word for i, word in enumerate(words))
    quotation = "\n\n".join([*texts[30:40], texts[1], *texts[40:50]])
    return [
        one(tmp_path / "e.txt", texts[:10], part="evaluation"),
        one(tmp_path / "p.txt", [*texts[10:20], near, quotation], part="pool"),
    ]


def test_what_nearly_repeats_the_evaluation_part_is_reported(tmp_path, leaking):
    summary = build.build(leaking, tmp_path / "c", CorpusSettings())
    near = summary["near_duplicates"]
    assert (near["near_duplicates"], near["quotations"], near["removed"]) == (1, 1, 0)
    assert summary["pool"]["documents"] == 12
    shares = {match["kind"]: match["share"] for match in near["listed"]}
    assert shares["near-duplicate"] > 0.7 and shares["quotation"] == 1
    assert 0.1 < summary["overlap"] < 0.9
    page = (tmp_path / "c/corpus.md").read_text()
    assert "nearly repeat one for evaluation: 1; that quote one: 1; removed: 0" in page


def test_what_nearly_repeats_the_evaluation_part_is_removed(tmp_path, leaking, texts):
    summary = build.build(leaking, tmp_path / "c", CorpusSettings(near_duplicates="remove"))
    assert summary["near_duplicates"]["removed"] == 2
    assert sorted(parts_of(tmp_path / "c")["pool"]) == sorted(texts[10:20])
    assert summary["overlap"] < 0.1


def test_sources_that_cannot_be_told_apart(tmp_path):
    many = [Source(f"s{i}", "none.txt") for i in range(257)]
    with pytest.raises(QuernError, match="257 sources are more than the 256"):
        build.build(many, tmp_path / "c", CorpusSettings())


@pytest.mark.slow
def test_memory_does_not_grow_with_the_text(tmp_path):
    """Documents of 1.5 MB, 3 times as many: the peak of the process hardly moves."""
    program = (
        "import resource, sys; from pathlib import Path; from quern.corpus import build, sources;"
        "folder, n = sys.argv[1:];"
        "build.build([sources.Source('s', f'{folder}/{n}.jsonl')], Path(folder) / n,"
        "build.CorpusSettings(1000));"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for n in (10, 30):
        with open(tmp_path / f"{n}.jsonl", "w") as file:
            for i in range(n):
                file.write(json.dumps({"text": f"{i} " + "word " * 300_000}) + "\n")
        command = [sys.executable, "-c", program, str(tmp_path), str(n)]
        environment = {"PYTHONPATH": str(HOUSE / "scripts")}
        made = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        peaks.append(int(made.stdout))
    assert peaks[1] < peaks[0] + 20_000  # kB, of 30 MB more text
