"""Imatrix files: llama.cpp's GGUF and the older .dat, there and back."""

import numpy as np
import pytest

from quern import QuernError
from quern.imatrix import formats
from quern.imatrix.matrix import Imatrix


def test_write_and_read_back(tmp_path):
    matrix = Imatrix(datasets=["wiki/pool"], chunks=3, chunk_size=512)
    matrix.add("blk.0.a.weight", np.array([[1.5, 2.5]]), np.array([7]))
    matrix.add("blk.0.e.weight", np.array([[1.0, 2.0], [0, 0]]), np.array([4, 0]))
    formats.write(matrix, tmp_path / "i.gguf")
    found = formats.read(tmp_path / "i.gguf")
    assert (found.datasets, found.chunks, found.chunk_size) == (["wiki/pool"], 3, 512)
    for name in matrix.sums:
        assert (found.sums[name] == matrix.sums[name]).all()
        assert (found.counts[name] == matrix.counts[name]).all()
    importances = found.importances()
    assert importances["blk.0.e.weight"].tolist() == [0.25, 0.5, 1, 1]
    first = (tmp_path / "i.gguf").read_bytes()
    formats.write(found, tmp_path / "j.gguf")
    assert (tmp_path / "j.gguf").read_bytes() == first


def test_nan_in_a_file_is_found_at_once(tmp_path):
    matrix = Imatrix()
    matrix.add("blk.0.a.weight", np.array([[1, np.nan]]), np.array([7]))
    formats.write(matrix, tmp_path / "i.gguf")
    with pytest.raises(QuernError, match=r"not finite for blk\.0\.a\.weight"):
        formats.read(tmp_path / "i.gguf")


def test_a_model_is_no_imatrix(made):
    with pytest.raises(QuernError, match="not an imatrix"):
        formats.read(made / "dense.gguf")


def test_the_old_format_there_and_back(tmp_path):
    matrix = Imatrix(datasets=["wiki.txt"], chunks=7, chunk_size=64)
    matrix.add("blk.0.a.weight", np.array([[448.0, 896.0]]), np.array([448]))
    formats.write(matrix, tmp_path / "i.dat")
    found = formats.read(tmp_path / "i.dat")
    assert (found.datasets, found.chunks) == (["wiki.txt"], 7)
    np.testing.assert_allclose(found.importances()["blk.0.a.weight"], [1, 2], rtol=1e-6)
    whole = (tmp_path / "i.dat").read_bytes()
    for size in (2, 20, len(whole) - 12):
        (tmp_path / "cut.dat").write_bytes(whole[:size])
        with pytest.raises(QuernError, match=r"is no imatrix of llama\.cpp, or is cut short"):
            formats.read(tmp_path / "cut.dat")


def test_the_windows_of_an_old_file_can_be_said(tmp_path):
    """A `.dat` does not say how long they were; its means are the same, its tokens are not."""
    matrix = Imatrix(datasets=["d"], chunks=3, chunk_size=128)
    matrix.add("blk.0.w", np.array([[3.0, 6.0]]), np.array([3 * 128.0]))
    formats.write(matrix, tmp_path / "m.dat")
    said, unsaid = formats.read(tmp_path / "m.dat", 128), formats.read(tmp_path / "m.dat")
    assert said.counts["blk.0.w"].tolist() == [3 * 128]
    assert unsaid.counts["blk.0.w"].tolist() == [3 * 512]
    np.testing.assert_allclose(said.sums["blk.0.w"], matrix.sums["blk.0.w"], rtol=1e-6)
    assert (said.importances()["blk.0.w"] == unsaid.importances()["blk.0.w"]).all()
