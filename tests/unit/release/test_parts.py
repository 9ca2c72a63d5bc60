"""Files that are cut and joined again, and metadata without paths, with real llama.cpp."""

import gguf
import numpy as np
import pytest

from models import write_model
from quern import QuernError, gguf_files
from quern.files import shards
from quern.llama import Model, Way
from quern.release import parts

SPLIT = 1_000_000
PATHS = {
    "quantize.imatrix.file": "../../../../home/someone/secret/wiki.gguf",
    "quantize.imatrix.dataset": "/data/someone/calibration.txt",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A model with metadata of many types."""
    path = tmp_path_factory.mktemp("whole") / "whole.gguf"
    return write_model(path, experts=4, metadata={"quantize.imatrix.file": "../imatrix/w.gguf"})


@pytest.fixture(scope="module")
def cut(whole, tmp_path_factory):
    return parts.release(whole, tmp_path_factory.mktemp("cut") / "A-1.5B-Q4_K_M.gguf", SPLIT)


def metadata(path):
    """All pairs of a file: type, type of elements, value."""
    fields = gguf_files.open_gguf(path).header.fields
    return {key: (field.types, field.contents()) for key, field in fields.items()}


def logits(path):
    tokens = np.arange(64, dtype=np.int32).reshape(1, -1)
    with Model(path, Way(threads=2)) as model:
        return np.concatenate([rows.copy() for _, _, rows in model.logits(tokens, 0, 64)])


def test_parts_are_called_and_marked_as_llama_gguf_split_does(whole, cut):
    """Its `split.*` keys and their types stand in tools/gguf-split/gguf-split.cpp."""
    n = len(cut)
    assert n > 2
    assert [p.name for p in cut] == [f"A-1.5B-Q4_K_M-{i + 1:05}-of-{n:05}.gguf" for i in range(n)]
    assert shards(cut[0]) == cut
    u16, i32 = gguf.GGUFValueType.UINT16, gguf.GGUFValueType.INT32
    tensors = len(gguf_files.open_gguf(whole).tensors)
    for i, path in enumerate(cut):
        found = metadata(path)
        own = {key: found.pop(key) for key in list(found) if key.startswith("split.")}
        assert own == {
            "split.no": ((u16,), i),
            "split.count": ((u16,), n),
            "split.tensors.count": ((i32,), tensors),
        }
        assert found.keys() == (
            metadata(whole).keys() if i == 0 else {"general.architecture"} & found.keys()
        )


def test_no_part_is_larger_than_asked_and_few_are_needed(whole, cut):
    assert max(p.stat().st_size for p in cut) <= SPLIT
    assert len(cut) <= 2 * whole.stat().st_size / SPLIT


def test_joining_gives_the_same_metadata_and_tensors(whole, cut):
    found = metadata(cut[0])
    assert {k: v for k, v in found.items() if not k.startswith("split.")} == metadata(whole)
    joined, before = gguf_files.tensors_of(cut[0]), gguf_files.tensors_of(whole)
    assert list(joined) == list(before)
    for name, tensor in before.items():
        assert tensor.tensor_type == joined[name].tensor_type
        assert list(tensor.shape) == list(joined[name].shape)
        assert tensor.data.tobytes() == joined[name].data.tobytes()


def test_llama_cpp_loads_the_parts_and_says_the_same(whole, cut):
    assert np.array_equal(logits(whole), logits(cut[0]))


def test_a_file_that_stays_as_it_is_is_linked(whole, tmp_path):
    (found,) = parts.release(whole, tmp_path / "x.gguf", 1 << 30)
    assert found.samefile(whole)


def test_where_files_cannot_be_linked_they_are_copied(whole, tmp_path, monkeypatch):
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    (found,) = parts.release(whole, tmp_path / "x.gguf")
    assert not found.samefile(whole) and found.read_bytes() == whole.read_bytes()


def test_paths_of_imatrices_are_taken_out_and_nothing_else(whole, tmp_path):
    source = write_model(tmp_path / "m.gguf", metadata=PATHS)
    (found,) = parts.release(source, tmp_path / "released.gguf")
    assert b"someone" in source.read_bytes() and b"someone" not in found.read_bytes()
    before, after = metadata(source), metadata(found)
    assert after.pop("quantize.imatrix.file")[1] == "wiki.gguf"
    assert after.pop("quantize.imatrix.dataset")[1] == "calibration.txt"
    assert after == {key: value for key, value in before.items() if key not in PATHS}
    assert np.array_equal(logits(source), logits(found))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("../imatrix/wiki.gguf", None),
        ("wiki.gguf", None),
        ("../../../downloads/wiki.gguf", "wiki.gguf"),
        ("C:\\Users\\someone\\wiki.gguf", "wiki.gguf"),
        ("~/wiki.gguf", "wiki.gguf"),
    ],
)
def test_which_paths_are_taken_out(tmp_path, value, expected):
    path = write_model(tmp_path / "m.gguf", metadata={"quantize.imatrix.file": value})
    found = parts.without_paths(gguf_files.open_gguf(path))
    assert found == ({"quantize.imatrix.file": expected} if expected else {})


def test_a_path_among_what_a_model_says_of_itself_is_taken_out(tmp_path):
    metadata = {"general.source.url": "file:///home/me/M", "general.finetune": "a/b"}
    path = write_model(tmp_path / "m.gguf", metadata=metadata)
    assert parts.without_paths(gguf_files.open_gguf(path)) == {"general.source.url": "M"}


def test_a_tensor_larger_than_a_part_is_refused(whole, tmp_path):
    with pytest.raises(QuernError, match=r"tensors are never cut.*release: split:"):
        parts.release(whole, tmp_path / "x.gguf", 100_000)
    assert not list(tmp_path.iterdir())
