"""The imatrix file, and how sums are formed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quern import QuernError, gguf_files
from quern.imatrix import Collector, Imatrix


class Product:
    """A product with given inputs."""

    def __init__(self, name, inputs, key, ids=None, experts=0, matrices=1):
        self.name, self.key, self.experts, self.matrices = name, key, experts, matrices
        self.inputs, self.expert_ids = (lambda: inputs), (lambda: ids)


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 5), st.booleans())
def test_expert_sums_agree_with_a_loop(seed, experts, tokens, shared):
    rng = np.random.default_rng(seed)
    used = min(2, experts)
    ids = np.array([rng.permutation(experts)[:used] for _ in range(tokens)])
    inputs = rng.standard_normal((tokens, 1 if shared else used, 8)).astype(np.float32)
    collector = Collector()
    collector(Product("e", inputs, 0, ids, experts, experts))
    sums, counts = np.zeros((experts, 8)), np.zeros(experts)
    for token in range(tokens):
        for slot in range(used):
            row = inputs[token, 0 if shared else slot].astype(np.float64)
            sums[ids[token, slot]] += row**2
            counts[ids[token, slot]] += 1
    np.testing.assert_allclose(collector.imatrix.sums["e"], sums, rtol=1e-12)
    assert (collector.imatrix.counts["e"] == counts).all()


def test_ten_million_rows_lose_nothing():
    """float32 sums would lose percents here."""
    rows = np.full((1, 100_000, 1), 1.1, np.float32)
    collector = Collector()
    for i in range(100):
        collector(Product("w", rows, i))
    expected = 1e7 * float(np.float32(1.1)) ** 2
    assert collector.imatrix.sums["w"][0, 0] == pytest.approx(expected, rel=1e-9)


def test_write_and_read_back(tmp_path):
    matrix = Imatrix(datasets=["wiki/pool"], chunks=3, chunk_size=512)
    matrix.add("blk.0.a.weight", np.array([[1.5, 2.5]]), np.array([7]))
    matrix.add("blk.0.e.weight", np.array([[1.0, 2.0], [0, 0]]), np.array([4, 0]))
    matrix.write(tmp_path / "i.gguf")
    found = Imatrix.read(tmp_path / "i.gguf")
    assert (found.datasets, found.chunks, found.chunk_size) == (["wiki/pool"], 3, 512)
    for name in matrix.sums:
        assert (found.sums[name] == matrix.sums[name]).all()
        assert (found.counts[name] == matrix.counts[name]).all()
    importances = found.importances()
    assert importances["blk.0.e.weight"].tolist() == [0.25, 0.5, 1, 1]
    assert found.unreached() == {"blk.0.e.weight": 1}
    first = (tmp_path / "i.gguf").read_bytes()
    found.write(tmp_path / "j.gguf")
    assert (tmp_path / "j.gguf").read_bytes() == first


def test_nan_in_a_file_is_found_at_once(tmp_path):
    matrix = Imatrix()
    matrix.add("blk.0.a.weight", np.array([[1, np.nan]]), np.array([7]))
    matrix.write(tmp_path / "i.gguf")
    with pytest.raises(QuernError, match=r"not finite for blk\.0\.a\.weight"):
        Imatrix.read(tmp_path / "i.gguf")


def test_a_model_is_no_imatrix(made):
    with pytest.raises(QuernError, match="not an imatrix"):
        Imatrix.read(made / "dense.gguf")


def test_the_first_tensor_that_differs_is_named(made, tmp_path):
    info = gguf_files.model_info(made / "dense.gguf")
    matrix = Imatrix()
    matrix.add("blk.0.attn_q.weight", np.ones((1, 128)), np.array([7]))
    with pytest.raises(QuernError, match=r"attn_q\.weight has 128 values there and 1 × 256"):
        matrix.require_fit(info, tmp_path / "i.gguf")
