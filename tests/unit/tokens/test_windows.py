"""Tokens and windows as llama.cpp's tools cut them."""

import numpy as np
import pytest

from models import write_model
from quern import QuernError, gguf_files
from quern.llama import Model
from quern.tokens import windows
from quern.tokens.windows import read_tokens


def test_windows_are_contiguous_and_begin_with_bos(made):
    text = (made / "text.txt").read_bytes()
    tokens = read_tokens(made / "dense.h5")
    found = tokens.windows(64, range(tokens.n_windows(64)))[:]
    assert (found[:, 0] == 256).all()
    with Model(made / "dense.gguf", load="vocab") as model:
        stream = np.concatenate([[256], model.tokenize(text)])
    assert len(found) == len(stream) // 64
    expected = stream[: found.size].reshape(found.shape)
    assert (found[:, 1:] == expected[:, 1:]).all()
    assert (found[3] == tokens.windows(64, [1, 3])[1:2][0]).all()


def test_a_model_without_bos_keeps_every_token(made, tmp_path):
    path = write_model(tmp_path / "m.gguf", add_bos=False)
    with Model(path, load="vocab") as model:
        windows.tokenize_text(model, "hash", made / "text.txt", tmp_path / "t.h5")
        stream = model.tokenize((made / "text.txt").read_bytes())
    found = read_tokens(tmp_path / "t.h5").windows(64, range(3))[:]
    assert (found.ravel() == stream[: 3 * 64]).all()


def test_a_long_text_gives_the_same_tokens_piece_by_piece(made, tmp_path, monkeypatch):
    info = gguf_files.model_info(made / "dense.gguf")
    monkeypatch.setattr(windows, "PIECE_BYTES", 5000)
    with Model(made / "dense.gguf", load="vocab") as model:
        windows.tokenize_text(model, info.tokenizer_sha256, made / "text.txt", tmp_path / "t.h5")
    pieces, whole = read_tokens(tmp_path / "t.h5"), read_tokens(made / "dense.h5")
    assert pieces.count == whole.count
    n = whole.n_windows(64)
    assert (pieces.windows(64, range(n))[:] == whole.windows(64, range(n))[:]).all()


def test_a_text_too_short_for_two_windows(made):
    with pytest.raises(QuernError, match="too few for two windows of 1000000"):
        read_tokens(made / "dense.h5").n_windows(1_000_000)


def test_a_limit(made):
    assert read_tokens(made / "dense.h5").n_windows(64, 5) == 5
