"""Shapes of models: by the header of a file, by hand, and by a guess."""

import gguf
import numpy as np
import pytest

from conftest import DEMO
from quern import gguf_files
from quern.cost import shape


def test_a_header_says_what_the_gguf_package_says(made):
    for name in ("dense", "moe"):
        path = made / f"{name}.gguf"
        found, info = shape.of_file(path), gguf_files.model_info(path)
        assert found.weights == info.parameters
        assert found.bytes == info.file_bytes
        assert (found.vocab, found.width) == (info.output.rows, info.output.columns)
        assert found.matrices == len(info.matrices)
        assert found.columns == sum(columns * n for columns, n in info.matrices.values())
        assert found.largest == max(int(t.n_elements) for t in gguf.GGUFReader(path).tensors)


def test_a_token_passes_only_the_experts_that_it_is_sent_to(made):
    found, reader = shape.of_file(made / "moe.gguf"), gguf.GGUFReader(made / "moe.gguf")
    (used,) = (f.contents() for k, f in reader.fields.items() if k.endswith("expert_used_count"))
    blocks = [t for t in reader.tensors if t.name.startswith("blk.") and len(t.shape) > 1]
    assert found.body == sum(
        int(t.n_elements) * used // int(t.shape[2]) if len(t.shape) > 2 else int(t.n_elements)
        for t in blocks
    )
    assert found.experts > 1


def test_the_demo_is_a_dense_model():
    found = shape.of_file(DEMO)
    expected = shape.dense(6, 256, 768, 256, 4096)
    assert found.weights == pytest.approx(expected.weights, rel=1e-3)  # norms
    for key in ("body", "vocab", "width", "matrices", "columns", "squares", "attention", "cache"):
        assert getattr(found, key) == getattr(expected, key), key


@pytest.mark.parametrize(
    ("sizes", "weights"),
    [
        ((32, 4096, 14336, 1024, 128256), 8.03e9),
        ((80, 8192, 28672, 1024, 128256), 70.6e9),
        ((126, 16384, 53248, 1024, 128256), 405.9e9),
    ],
)
def test_sizes_on_paper_are_those_of_published_models(sizes, weights):
    assert shape.dense(*sizes).weights == pytest.approx(weights, rel=2e-3)


def test_a_file_that_says_nothing_is_guessed_by_its_size(tmp_path):
    for content in (b"", b"GGUF", b"no model" * 100, DEMO.read_bytes()[:5000]):
        path = tmp_path / "model.gguf"
        path.write_bytes(content)
        found = shape.of_file(path)
        assert found.width and found.vocab
    assert shape.guessed(16_060_000_000).weights == pytest.approx(8.03e9, rel=0.01)
    for flip in np.random.default_rng(0).integers(0, 2000, 50):
        content = bytearray(DEMO.read_bytes()[:50_000])
        content[flip] ^= 0xFF
        path.write_bytes(content)
        shape.of_file(path)


def test_shapes_are_remembered_until_the_file_changes(made, tmp_path, monkeypatch):
    path, cache = tmp_path / "model.gguf", tmp_path / "results/.shapes.json"
    path.write_bytes((made / "dense.gguf").read_bytes())
    first = shape.Shapes(cache).of(path)
    with monkeypatch.context() as patch:
        patch.setattr(shape, "of_file", None)  # it is not read again
        assert shape.Shapes(cache).of(path) == first
    path.write_bytes((made / "moe.gguf").read_bytes())
    assert shape.Shapes(cache).of(path) == shape.of_file(path) != first
