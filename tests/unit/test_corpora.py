"""Splitting by whole documents, and what is wrong with a source."""

import json

import pandas as pd
import pytest

from quern import QuernError, corpora
from quern.corpora import Source


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
    for part in corpora.PARTS:
        content = (folder / f"{part}.txt").read_bytes()
        rows = table[table.part == part]
        found[part] = [
            content[o : o + n].decode() for o, n in zip(rows.offset, rows.bytes, strict=True)
        ]
    return found


def test_parts_are_disjoint_and_hold_every_document_once(tmp_path, sources, texts):
    summary = corpora.build(sources, tmp_path / "c", evaluation_characters=40_000, seed=1)
    parts = parts_of(tmp_path / "c")
    assert sorted(parts["evaluation"] + parts["pool"]) == sorted(texts[:50])
    sizes = [len(t) for t in parts["evaluation"]]
    assert sum(sizes) - sizes[-1] < 40_000 <= sum(sizes)
    assert summary["sources"]["a"]["evaluation"] + summary["sources"]["a"]["pool"] == 20


def test_same_seed_same_bytes_other_seed_other_split(tmp_path, sources):
    for name, seed, order in (("x", 1, 1), ("y", 1, -1), ("z", 2, 1)):
        corpora.build(sources[::order], tmp_path / name, evaluation_characters=40_000, seed=seed)
    x, y, z = ((tmp_path / name / "evaluation.txt").read_bytes() for name in "xyz")
    assert x == y != z


def test_duplicates_are_kept_once(tmp_path, sources, texts):
    summary = corpora.build(sources + sources[:1], tmp_path / "c", evaluation_characters=0, seed=0)
    assert summary["duplicates_dropped"] == 20
    assert sorted(parts_of(tmp_path / "c")["pool"]) == sorted(texts[:50])


def test_a_source_can_go_to_one_part_whole(tmp_path, sources, texts):
    whole = [Source("a", sources[0].path, separator="\n%%\n", part="evaluation"), sources[1]]
    corpora.build(whole, tmp_path / "c", evaluation_characters=0, seed=0)
    assert sorted(parts_of(tmp_path / "c")["evaluation"]) == sorted(texts[:20])


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (b"caf\xe9", {"kind": "text"}, "not UTF-8 at byte 3"),
        (b'{"text": "a"}\n{oops', {"kind": "jsonl"}, "line 2"),
        (b'{"body": "a"}', {"kind": "jsonl"}, "has no field text; it has body"),
        (b'{"text": 3}', {"kind": "jsonl"}, "is int, not text"),
        (b"  \n ", {"kind": "text"}, "hold no text"),
    ],
)
def test_a_bad_source_is_a_sentence(tmp_path, content, options, words):
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(QuernError, match=words):
        corpora.build(
            [Source("s", str(tmp_path / "f"), **options)],
            tmp_path / "c",
            evaluation_characters=1,
            seed=0,
        )


def test_a_missing_file_names_the_pattern(tmp_path):
    with pytest.raises(QuernError, match=r"source s: no file matches .*\*\.txt"):
        list(corpora.documents(Source("s", str(tmp_path / "*.txt"))))
