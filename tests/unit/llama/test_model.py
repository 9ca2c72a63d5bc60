"""Through the one door: logits, activations and quantization on real (if random) models."""

import os
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest

from conftest import HOUSE
from models import write_model
from quern import QuernError, gguf_files, llama
from quern.imatrix import shards
from quern.release import parts
from quern.tokens.windows import read_tokens


@pytest.fixture(scope="module")
def windows(made):
    return read_tokens(made / "dense.h5").windows(96, range(6))[:]


def all_logits(path, windows, first, last, **way):
    found = np.full((len(windows), last - first, 300), np.nan, np.float32)
    with llama.Model(path, llama.Way(**{"threads": 2} | way)) as model:
        for window, position, rows in model.logits(windows, first, last):
            found[window, position - first : position - first + len(rows)] = rows
    assert np.isfinite(found).all()
    return found


def test_windows_together_alone_or_in_parts_give_the_same_logits(made, windows, monkeypatch):
    together = all_logits(made / "dense.gguf", windows, 48, 95)
    alone = all_logits(made / "dense.gguf", windows, 48, 95, n_batch=96)
    monkeypatch.setattr("quern.llama.model.LOGITS_BYTES", 300 * 4 * 20)
    in_parts = all_logits(made / "dense.gguf", windows, 48, 95, n_batch=96)
    np.testing.assert_allclose(alone, together, atol=2e-2)
    np.testing.assert_allclose(in_parts, together, atol=2e-2)


def test_threads_do_not_change_a_bit(made, windows):
    one = all_logits(made / "dense.gguf", windows, 48, 95, threads=1)
    assert (one == all_logits(made / "dense.gguf", windows, 48, 95, threads=2)).all()


@pytest.fixture(scope="module")
def long_windows():
    """More than one decode takes, so that two contexts share them."""
    return np.random.default_rng(4).integers(0, 256, (7, 512)).astype(np.int32)


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_contexts_side_by_side_do_not_change_a_bit(made, long_windows, threads):
    one, more = (
        all_logits(made / "dense.gguf", long_windows, 500, 511, threads=n) for n in (1, threads)
    )
    assert (one == more).all()
    one, more = (collected(made / "moe.gguf", long_windows, threads=n).sums for n in (1, threads))
    assert all((sums == more[name]).all() for name, sums in one.items())


def test_a_model_may_be_closed_in_the_middle(made, long_windows):
    with llama.Model(made / "dense.gguf", llama.Way(threads=2)) as model:
        taken = [next(model.logits(long_windows, 256, 511))[0] for _ in range(2)]
        steps = model.hidden_states(long_windows, 256, 511)
        taken.append(next(steps)[0])
    assert taken == [0, 0, 0]


def test_a_prefix_alone_decides_a_position(made, windows):
    """Causality: what follows a position, and other windows beside it, do not count."""
    changed = windows.copy()
    changed[:, 80:] = 7
    before = all_logits(made / "dense.gguf", windows, 48, 95)
    after = all_logits(made / "dense.gguf", changed, 48, 95)
    np.testing.assert_allclose(before[:, : 80 - 48], after[:, : 80 - 48], atol=2e-2)
    assert abs(before[:, 40:] - after[:, 40:]).max() > 0.5


def collected(path, windows, **way):
    collector = shards.SumsOfSquares()
    with llama.Model(path, llama.Way(**{"threads": 2} | way)) as model:
        for _ in model.activations(windows, lambda name: name.startswith("blk."), collector):
            pass
    even, odd = collector.halves
    return even + odd


def test_the_first_layers_sums_follow_from_the_embeddings(made, windows):
    """The input of blk.0's q, k and v is the RMS-normalized embedding: a closed form."""
    reader = gguf_files.open_gguf(made / "dense.gguf")
    embeddings = next(t.data for t in reader.tensors if t.name == "token_embd.weight")
    x = embeddings[windows.ravel()].astype(np.float64)
    x /= np.sqrt((x**2).mean(1, keepdims=True) + 1e-5)
    found = collected(made / "dense.gguf", windows)
    for name in ("attn_q", "attn_k", "attn_v"):
        sums = found.sums[f"blk.0.{name}.weight"]
        np.testing.assert_allclose(sums[0], (x**2).sum(0), rtol=2e-3)
        assert found.counts[f"blk.0.{name}.weight"] == [windows.size]


def test_every_product_in_the_blocks_is_collected(made, windows):
    for name in ("dense", "moe"):
        info = gguf_files.model_info(made / f"{name}.gguf")
        found = collected(made / f"{name}.gguf", windows)
        assert set(found.sums) == set(info.matrices)
        for tensor, (columns, matrices) in info.matrices.items():
            assert found.sums[tensor].shape == (matrices, columns)


def test_experts_count_their_tokens_and_a_dead_one_has_none(made, windows):
    found = collected(made / "moe.gguf", windows)
    for tensor, counts in found.counts.items():
        if "_exps" in tensor:
            assert counts.sum() == 2 * windows.size
            assert counts[2] == 0 and (np.delete(counts, 2) > 0).all()
            assert (found.sums[tensor][2] == 0).all()
    info = gguf_files.model_info(made / "moe.gguf")
    assert found.unreached(info) == {t: 1 for t in found.counts if "_exps" in t}


def test_long_windows_are_summed_in_parts(made):
    tokens = read_tokens(made / "dense.h5")
    long = tokens.windows(1024, range(2))[:]
    found = collected(made / "dense.gguf", long)
    assert all(counts == [long.size] for counts in found.counts.values())
    # The last graph is left early; it must have seen what the one before kept in memory.
    whole = collected(made / "dense.gguf", long, n_ubatch=1024)
    for name, sums in whole.sums.items():
        np.testing.assert_allclose(found.sums[name], sums, rtol=2e-2)


def test_graphs_that_are_left_early_leave_no_complaints(made, windows, caplog):
    caplog.set_level("WARNING")
    collected(made / "dense.gguf", windows)
    assert not [r for r in caplog.records if "decode" in r.message or "compute" in r.message]


def test_an_infinite_input_names_tensor_and_window(tmp_path, windows):
    path = write_model(tmp_path / "m.gguf")
    reader = gguf.GGUFReader(path, "r+")
    norm = next(t for t in reader.tensors if t.name == "blk.1.ffn_norm.weight")
    norm.data[0] = np.inf
    reader.data.flush()
    with pytest.raises(QuernError, match=r"blk\.1\.ffn_(gate|up)\.weight are not finite in window"):
        collected(path, windows)


def test_types_are_named_as_llama_quantize_names_them():
    types = llama.quantization_types()
    assert types["Q4_K"] == types["Q4_K_M"] == 15
    assert {"F32", "F16", "BF16", "Q8_0", "IQ2_XXS", "TQ1_0"} <= set(types)
    assert llama.tensor_types()["Q6_K"] == 14


def test_a_gpu_that_is_not_there_is_refused(made):
    import llama_cpp

    if llama_cpp.llama_supports_gpu_offload():
        pytest.skip("this build has a GPU")
    with pytest.raises(QuernError, match="a GPU is asked for"):
        llama.Model(made / "dense.gguf", llama.Way(gpus=1))


# Prints a hash of logits, and how many bytes the process allocated for the model and its context.
ALLOCATED = """
import hashlib, sys
import numpy as np
from quern.llama import Model

def allocated():
    return int(open("/proc/self/status").read().split("RssAnon:")[1].split()[0]) << 10

before, digest = allocated(), hashlib.sha256()
with Model(sys.argv[1], n_ctx=64) as model:
    for _, _, rows in model.logits(np.arange(64, dtype=np.int32)[None], 32, 63):
        digest.update(rows.tobytes())
    print(digest.hexdigest(), allocated() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="/proc is Linux's")
@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_weights_stay_in_their_files_one_or_several(tmp_path, dtype):
    """So a model that is larger than memory runs: the system drops pages and reads them again."""
    path = write_model(tmp_path / "x.gguf", n_embd=1024, n_ff=4096, dtype=dtype)
    size = path.stat().st_size
    found = [
        subprocess.run(
            [sys.executable, "-c", ALLOCATED, p],
            env=os.environ | {"PYTHONPATH": str(HOUSE / "scripts")},
            capture_output=True,
            check=True,
        ).stdout.split()
        for p in (path, parts.release(path, tmp_path / "y.gguf", size // 3)[0])
    ]
    assert found[0][0] == found[1][0]
    assert all(int(allocated) < size / 2 for _, allocated in found), (found, size)
