"""Damaged headers of GGUF files end in a sentence, at once."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import write_model
from quern import QuernError, gguf_files


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("m") / "m.gguf", n_layer=1)


def test_whole_files_pass(model, made):
    for path in (model, made / "dense.gguf", made / "moe.gguf"):
        gguf_files.open_gguf(path)


def header(*pairs, tensors=()):
    """A GGUF of raw metadata and tensor infos."""
    start = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs))
    return start + b"".join([*pairs, *tensors]) + bytes(4096)


def key(name, kind, raw):
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind) + raw


def tensor(name, shape, kind, offset=0):
    raw = struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", len(shape))
    return raw + struct.pack(f"<{len(shape)}QIQ", *shape, kind, offset)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (header(key("a", 9, struct.pack("<IQ", 9, 1 << 60))), "an array of"),
        (header(key("a", 9, struct.pack("<IQ", 8, 1 << 60))), "an array of"),
        (header(key("a", 9, struct.pack("<IQ", 4, 1 << 60))), "in the middle of its header"),
        (header(key("a", 8, struct.pack("<Q", 1 << 62))), "in the middle of its header"),
        (header(key("a", 13, b"")), "a value of type 13"),
        (header(struct.pack("<Q", 1 << 40)), "a name of"),
        (header(key("a", 7, b"\1"), key("a", 7, b"\1")), "occurs twice"),
        (header(tensors=[tensor("t", [32, 1], 137)]), "t has the type 137, a type that this"),
        (header(tensors=[tensor("t", [32] * 5, 0)]), "5 dimensions"),
        (header(tensors=[tensor("t", [33], 2)]), "does not allow"),
        (header(tensors=[tensor("t", [1 << 62, 4], 0)]), "beyond the file's end"),
        (header(tensors=[tensor("t", [1], 0)] * 2), "two tensors have one name"),
        (b"GGUF" + struct.pack("<IQQ", 9, 0, 0), "version 9"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 50, 0), "do not fit"),
        (b"GGUF\3", "damaged or cut short"),
    ],
)
def test_what_makes_no_sense_is_said(tmp_path, content, words):
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(QuernError, match=words):
        gguf_files.open_gguf(tmp_path / "x.gguf")


@given(st.data())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_byte_changed_in_the_header_is_a_sentence_or_a_model(model, tmp_path_factory, data):
    raw = bytearray(model.read_bytes())
    at = data.draw(st.integers(0, 9000))
    raw[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("changed") / "x.gguf"
    path.write_bytes(raw)
    try:
        gguf_files.model_info(path)
    except QuernError as error:
        assert str(path) in str(error)
