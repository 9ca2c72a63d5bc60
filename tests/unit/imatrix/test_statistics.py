"""Figures of an imatrix by their definitions."""

import numpy as np
import pytest

from conftest import command, fails_with
from quern.imatrix import formats, statistics
from quern.imatrix.matrix import Imatrix
from quern.imatrix.shards import merge


def test_statistics_by_their_definitions():
    matrix = Imatrix()
    matrix.add("blk.0.ffn_up.weight", np.array([[4.0, 4, 4, 4, 4, 4, 4, 36]]), np.array([4]))
    matrix.add("blk.1.ffn_up.weight", np.array([[0.0, 0, 0, 0, 0, 0, 0, 8]]), np.array([4]))
    frame = statistics.table(matrix, {"blk.0.ffn_up.weight": 0.25}).set_index("tensor")
    row = frame.loc["blk.0.ffn_up.weight"]
    assert (row.layer, row.kind, row.elements) == (0, "ffn_up", 8)
    assert (row.total, row["mean"], row["min"], row["max"]) == (16, 2, 1, 9)
    share = np.array([1 / 16] * 7 + [9 / 16])
    assert row.entropy == pytest.approx(-(share * np.log2(share)).sum())
    assert row.zd == 1 / 8
    assert row.noise == 0.25
    other = frame.loc["blk.1.ffn_up.weight"]
    assert other.active == 1 / 8
    assert other.entropy == 0
    assert other.similarity == pytest.approx(36 / np.sqrt(7 * 16 + 36**2))
    layers = statistics.layers(frame.reset_index())
    assert layers.total.tolist() == [16, 2]


def test_statistics_as_files(collect, tmp_path):
    merged = merge([collect(tmp_path / "s.h5", 0, 4)], "d")
    formats.write(merged.matrix, tmp_path / "i.gguf")
    arguments = [
        *("--imatrix", tmp_path / "i.gguf", "--csv", tmp_path / "t.csv"),
        *("--layers", tmp_path / "l.csv", "--picture", tmp_path / "p.png"),
    ]
    result = command("imatrix_statistics", *arguments)
    assert result.returncode == 0, result.stderr
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 15
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
    (tmp_path / "i.gguf").write_bytes(b"GGUF")
    fails_with(command("imatrix_statistics", *arguments), "i.gguf is damaged or cut short")
