"""Documents in files of every format, compressed or not, whole or damaged."""

import bz2
import csv
import gzip
import json
import lzma
import re

import pandas as pd
import pytest
import zstandard

from quern import QuernError
from quern.corpus import build, conversations, readers
from quern.corpus.readers import documents
from quern.corpus.sources import Source


def write_text(path, texts):
    path.write_text("\n%%\n".join(texts))


def write_jsonl(path, texts):
    path.write_text("\n".join(json.dumps({"id": 1, "a": [{"t": t}]}) for t in texts))


def write_array(path, texts):
    path.write_text(json.dumps([{"id": 1, "a": [{"t": t}]} for t in texts], indent=1))


def write_csv(path, texts):
    with open(path, "w", newline="") as file:
        rows = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        rows.writerows([["id", "body"], *([i, t] for i, t in enumerate(texts))])


def write_parquet(path, texts):
    pd.DataFrame({"id": 1, "a": [[{"t": t}] for t in texts]}).to_parquet(path)


WRITERS = {
    "f.txt": (write_text, {"separator": "\n%%\n"}),
    "f.md": (write_text, {"separator": "\n%%\n"}),
    "f.jsonl": (write_jsonl, {"field": "a.0.t"}),
    "lines.json": (write_jsonl, {"field": "a.0.t"}),
    "array.json": (write_array, {"field": "a.0.t"}),
    "f.csv": (write_csv, {"field": "body"}),
    "f.tsv": (write_csv, {"field": "body"}),
    "f.parquet": (write_parquet, {"field": "a.0.t"}),
}


COMPRESS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
    ".zstd": zstandard.compress,
}


def pack(path, how):
    """Compress a file by the way of an ending beside it; its new path."""
    if not how:
        return path
    packed = path.with_name(path.name + how)
    content = path.read_bytes()
    packed.write_bytes(COMPRESS[how](content))
    path.unlink()
    return packed


@pytest.mark.parametrize("how", ["", *COMPRESS])
@pytest.mark.parametrize("name", WRITERS)
def test_every_format(tmp_path, texts, name, how):
    write, options = WRITERS[name]
    some = [*texts[:300], "zweisprachig: größer, 日本語 🙂, \"quoted\", 'a,b'\nand lines"]
    write(tmp_path / name, some)
    path = pack(tmp_path / name, how)
    assert list(documents(Source("s", str(path), **options))) == some


def test_characters_and_separators_across_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "BLOCK", 7)
    some = ["ä€🙂" * n for n in range(1, 20)]
    (tmp_path / "f.txt").write_text("\ufeff" + "\r\n\r\n".join(some), newline="")
    (tmp_path / "f.jsonl").write_text("\n".join(json.dumps({"text": t}) for t in some))
    assert list(documents(Source("s", str(tmp_path / "f.txt"), separator="\r\n\r\n"))) == some
    assert list(documents(Source("s", str(tmp_path / "f.jsonl")))) == some


def test_a_file_is_one_document_unless_it_is_very_long(tmp_path, texts, monkeypatch):
    (tmp_path / "f.txt").write_text("\n\n".join(texts[:40]))
    assert list(documents(Source("s", str(tmp_path / "f.txt")))) == ["\n\n".join(texts[:40])]
    monkeypatch.setattr(readers, "LONGEST", 20_000)
    pieces = list(documents(Source("s", str(tmp_path / "f.txt"))))
    assert all(len(piece) <= 20_000 for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join("".join(texts[:40]).split())


def test_files_of_a_pattern_in_order_each_by_its_ending(tmp_path):
    (tmp_path / "b.txt").write_text("two")
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": null}\n{"text": " "}\n')
    (tmp_path / "c").mkdir()
    (tmp_path / "c/d.md").write_text("three")
    assert list(documents(Source("s", f"{tmp_path}/**/*"))) == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("f.txt", b"caf\xe9", "f.txt is not UTF-8 at byte 3"),
        ("f.txt", b"a" * 3_000_000 + b"\xc3", "f.txt is not UTF-8 at byte 3000000"),
        ("f.jsonl", b'{"text": "a"}\n{oops', "line 2 of .*f.jsonl is not JSON"),
        ("f.jsonl", b'{"body": "a", "id": 3}', "has no field text; it has body, id"),
        ("f.jsonl", b"[1]", "has no field text; it has the type list"),
        ("f.jsonl", b'{"text": 3}', "field text in line 1 of .* is int, not text"),
        ("f.csv", b"body,id\na,1\n", "line 2 of .*f.csv has no field text; it has body, id"),
        ("f.csv", b"id,text\n1,a\n2,b,c\n", "line 3 of .*f.csv has 3 cells, the header 2"),
        ("f.csv", b"id,text\n1,a\n2\n", "line 3 of .*f.csv has 1 cells, the header 2"),
        ("f.csv", b'id,text\n1,"a\nb"\n2,"c\nd\n', "begins in line 4 of .*f.csv is not CSV"),
        ("f.tsv", b'id\ttext\n1\t"a" b\n', "begins in line 2 of .*f.tsv is not CSV"),
        ("f.json", b'[{"text": "a"}, {"text": "b"}', "record 3 of .*f.json is not JSON, or cut"),
        ("f.json", b'[{"text": "a"} {"text": "b"}]', "record 2 of .*comma is missing"),
        ("f.json", b'[{"text": "a"}] [1]', "f.json goes on after the end of its array"),
        ("f.json", b'{"text": "a"}\n{"tex', "record 2 of .*f.json is not JSON, or cut short"),
        ("f.txt", b' [\n{"text": "a"}]', "f.txt begins like JSON; say kind: json, or kind: text"),
        ("f.log", b'{"text": "a"}\n{"text": "b"}', "f.log begins like JSON"),
        ("f.parquet", b"PAR1 but no more", "f.parquet is damaged or not Parquet"),
        ("f.txt.gz", b"no gzip", "f.txt.gz is damaged or cut short"),
        ("f.txt.gz", gzip.compress(b"abc" * 9)[:-5], "f.txt.gz is damaged or cut short"),
        ("f.txt.zst", b"no zstd", "f.txt.zst is damaged or cut short"),
        ("f.txt.zst", zstandard.compress(b"abc" * 9)[:-5], "f.txt.zst is damaged or cut short"),
        ("f.txt.bz2", b"no bzip2", "f.txt.bz2 is damaged or cut short"),
        ("f.txt.bz2", bz2.compress(b"abc" * 9)[:-5], "f.txt.bz2 is damaged or cut short"),
        ("f.txt.xz", b"no xz", "f.txt.xz is damaged or cut short"),
        ("f.txt.xz", lzma.compress(b"abc" * 9)[:-5], "f.txt.xz is damaged or cut short"),
        ("f.tar.gz", b"", "f.tar.gz is an archive; unpack it and name the files in it"),
        ("f.zip", b"PK", "f.zip is an archive"),
        ("f.csv", b"text,id,text\na,1,b\n", "f.csv has the column text more than once"),
        ("f.txt", b"  \n ", "hold no text"),
    ],
)
def test_a_bad_source_is_a_sentence(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(QuernError, match=f"source s: .*{words}"):
        list(documents(Source("s", str(tmp_path / name))))


def test_a_column_twice_that_is_not_read_is_left_alone(tmp_path):
    (tmp_path / "f.csv").write_text("text,,\na,,\n")
    assert list(documents(Source("s", str(tmp_path / "f.csv")))) == ["a"]


def test_zstandard_may_look_back_as_far_as_it_can(tmp_path):
    """As `zstd --long=31` writes it; a stream, so the window of 2 GiB stands in the frame."""
    wide = zstandard.ZstdCompressionParameters.from_level(3, window_log=31, enable_ldm=True)
    stream = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    (tmp_path / "f.txt.zst").write_bytes(stream.compress(b"some text") + stream.flush())
    assert list(documents(Source("s", str(tmp_path / "f.txt.zst")))) == ["some text"]


@pytest.mark.parametrize("ending", ["txt", "jsonl"])
def test_marks_of_byte_order_in_joined_files_are_left_out(tmp_path, caplog, monkeypatch, ending):
    monkeypatch.setattr(readers, "BLOCK", 4)
    part = "\ufeffone\n%%\ntwo\n" if ending == "txt" else '\ufeff{"text": "one"}\n'
    separator = "\n%%\n" if ending == "txt" else ""
    path = tmp_path / f"f.{ending}"
    path.write_text(3 * part)
    found = "\n".join(documents(Source("s", str(path), separator=separator)))
    assert found.count("one") == 3 and "\ufeff" not in found
    assert "2 marks of byte order (U+FEFF) within it are left out" in caplog.text


def test_a_field_that_a_parquet_file_lacks(tmp_path):
    pd.DataFrame({"body": ["a"], "id": [1]}).to_parquet(tmp_path / "f.parquet")
    with pytest.raises(QuernError, match=r"source s: .* has no field text; it has body, id"):
        list(documents(Source("s", str(tmp_path / "f.parquet"))))


def test_a_missing_file_names_the_pattern(tmp_path):
    with pytest.raises(QuernError, match=r"source s: no file matches .*\*\.txt"):
        list(documents(Source("s", str(tmp_path / "*.txt"))))


def test_a_source_that_is_not_fetched_yet():
    with pytest.raises(QuernError, match="source s/en: kind oscar must be fetched first"):
        list(documents(Source("s", "x", kind="oscar", language="en")))


def test_records_of_json_across_blocks(tmp_path, monkeypatch):
    """An array, values one after the other, and texts alone, whatever the blocks."""
    monkeypatch.setattr(readers, "BLOCK", 5)
    some = ["ä€🙂" * n + '"[{,' for n in range(1, 40)]
    records = [{"n": n, "text": text} for n, text in enumerate(some)]
    for name, content in {
        "array": json.dumps(records),
        "pretty": json.dumps(records, indent=2),
        "one after the other": "\n\n".join(json.dumps(r, indent=1) for r in records),
        "texts": json.dumps(some, ensure_ascii=False),
    }.items():
        (tmp_path / "f.json").write_text(content)
        assert list(documents(Source("s", str(tmp_path / "f.json")))) == some, name


def test_text_that_is_said_to_be_text_may_begin_like_json(tmp_path):
    (tmp_path / "f.txt").write_text('{"a": 1}')
    assert list(documents(Source("s", str(tmp_path / "f.txt"), kind="text"))) == ['{"a": 1}']


def test_half_a_surrogate_pair_is_replaced_and_said(tmp_path, caplog):
    lines = [r'{"text": "whole \ud83d\ude42"}', r'{"text": "half \ud800 and \udc00"}']
    lines.append(r'{"text": [{"role": "user", "content": "\ud800"}]}')
    (tmp_path / "f.jsonl").write_text("\n".join(lines))
    whole, half, talk = documents(Source("s", str(tmp_path / "f.jsonl")))
    assert (whole, half) == ("whole 🙂", "half \ufffd and \ufffd")
    assert conversations.messages(talk) == [{"role": "user", "content": "\ufffd"}]
    assert "line 2 of " in caplog.text and ": 2 half surrogates become U+FFFD" in caplog.text
    assert "line 3 of " in caplog.text and "line 1 of" not in caplog.text


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_a_form_puts_fields_together(tmp_path, ending):
    records = [{"q.x": "Why?", "in": "", "out": "So."}, {"q.x": "", "in": "", "out": ""}]
    path = tmp_path / f"f.{ending}"
    if ending == "jsonl":
        path.write_text("\n".join(map(json.dumps, records)))
    else:
        frame = pd.DataFrame(records)
        frame.to_csv(path, index=False) if ending == "csv" else frame.to_parquet(path)
    form = Source("s", str(path), field="{q.x}\n{in}\nAnswer: {out}")
    assert list(documents(form)) == ["Why?\n\nAnswer: So."]
    with pytest.raises(QuernError, match="has no field wrong"):
        list(documents(Source("s", str(path), field="{q.x}{wrong}")))
    assert list(documents(Source("s", str(path), field="q.x"))) == ["Why?"]


@pytest.mark.parametrize(
    ("content", "separator", "words"),
    [
        ("a\r\n\r\nb", "\n\n", r"its lines end in \\r\\n, so write that"),
        ("a\n\nb", r"\n\n", "in YAML, .* between double quotes only"),
        ("a\n\nb", "---", "its separator '---' is nowhere in .*f.txt"),
    ],
)
def test_a_separator_that_is_never_found(tmp_path, caplog, content, separator, words):
    (tmp_path / "f.txt").write_text(content, newline="")
    lone = Source("s", str(tmp_path / "f.txt"), separator=separator)
    with pytest.raises(QuernError, match=f"source s: the corpus is in one piece: .*{words}"):
        build.build([lone], tmp_path / "corpus", build.CorpusSettings())
    (tmp_path / "g.txt").write_text("other")
    build.build(
        [lone, Source("t", str(tmp_path / "g.txt"))], tmp_path / "c", build.CorpusSettings()
    )
    assert re.search(words, caplog.text)


def test_a_separator_that_is_found_once_in_much_text_is_said(tmp_path):
    (tmp_path / "f.txt").write_text("a%b")
    source = Source("s", str(tmp_path / "f.txt"), separator="%")
    assert readers.on_separator(source, 2)[1].startswith("its separator is found only 1 times")
    assert readers.on_separator(source, 3) == (3, "")
