"""Base files of llama-perplexity, imported and compared with."""

import numpy as np
import pytest

from conftest import command, fails_with
from quern import gguf_files
from quern.llama import Model, Way
from quern.measure import base_file, comparison
from quern.measure.baseline import Baseline
from quern.measure.window_store import WindowStore

N_CTX, WINDOWS = 64, 30


def write_base_file(path, tokens, log_probabilities):
    """As tools/perplexity/perplexity.cpp writes it; rows [chunks, positions, n_vocab]."""
    chunks, n_ctx = tokens.shape
    n_vocab = log_probabilities.shape[2]
    with open(path, "wb") as file:
        file.write(b"_logits_")
        np.array([n_ctx, n_vocab, chunks], np.int32).tofile(file)
        tokens.astype(np.int32).tofile(file)
        for row in log_probabilities.reshape(-1, n_vocab):
            smallest = max(row.max() - 16, row.min())
            scale = (row.max() - smallest) / 65535
            np.array([scale, smallest], np.float32).tofile(file)
            steps = np.clip((row - smallest) / scale + 0.5, 0, 65535)
            padded = np.zeros(2 * ((n_vocab + 1) // 2), np.uint16)
            padded[:n_vocab] = np.where(row > smallest, steps, 0)
            padded.tofile(file)


@pytest.fixture
def base(tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((3, 31, 301)) * 4
    rows -= np.log(np.exp(rows).sum(2, keepdims=True))
    tokens = rng.integers(0, 300, (3, 64))
    write_base_file(tmp_path / "base.dat", tokens, rows)
    return tmp_path / "base.dat", tokens, rows


def test_an_imported_base_file_holds_what_it_held(base, tmp_path):
    path, tokens, rows = base
    facts = base_file.convert(path, tmp_path / "b.h5")
    assert facts["clipped"] and facts["first_position"] == 32
    with WindowStore.open(tmp_path / "b.h5") as store:
        assert (store.rows("tokens") == tokens).all()
        floor = np.maximum(rows, rows.max(2, keepdims=True) - 16)
        np.testing.assert_allclose(store.rows("logits"), floor, atol=16 / 65535)


def test_a_base_file_cut_short_is_refused_and_its_whole_part_taken(base, tmp_path):
    path, _, _ = base
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - 100)
    arguments = ("--base", path, "--output", tmp_path / "b.h5", "--facts", tmp_path / "f.json")
    fails_with(command("import_base", *arguments), "cut short", "2 of 3 chunks", "--to 2")
    assert not (tmp_path / "b.h5").exists()
    result = command("import_base", *arguments, "--to", 2)
    assert result.returncode == 0, result.stderr
    (tmp_path / "x.dat").write_text("no base file at all")
    arguments = ("--base", tmp_path / "x.dat", *arguments[2:])
    fails_with(command("import_base", *arguments), "is no base file of llama-perplexity")


def test_an_imported_base_file_can_be_compared_with(made, opened, of_type, read, tmp_path):
    """The store's own logits, passed through the peer's format, give nearly the same figures."""
    with opened() as baseline:
        comparison.compare([of_type("Q4_0", tmp_path / "a.h5")], baseline, Way(threads=2))
        tokens = np.array([baseline.tokens(w) for w in range(4)])
        info = gguf_files.model_info(made / "dense.gguf")
        with Model(made / "dense.gguf", Way(threads=2)) as model:
            rows = np.concatenate(
                [r.copy() for _, _, r in model.logits(tokens, N_CTX // 2, N_CTX - 1)]
            )
    rows = rows.reshape(4, -1, info.n_vocab).astype(np.float64)
    rows -= np.log(np.exp(rows).sum(2, keepdims=True))
    write_base_file(tmp_path / "base.dat", tokens, rows)
    base_file.convert(tmp_path / "base.dat", tmp_path / "b.h5")
    with Baseline(tmp_path / "b.h5") as imported:
        comparison.compare([of_type("Q4_0", tmp_path / "c.h5")], imported, Way(threads=2))
    exact, clipped = read(tmp_path / "a.h5")["kld"][:4], read(tmp_path / "c.h5")["kld"]
    np.testing.assert_allclose(clipped.mean(), exact.mean(), rtol=0.01)
    assert comparison.summarize(tmp_path / "c.h5")[0]["provenance"]["clipped"]
