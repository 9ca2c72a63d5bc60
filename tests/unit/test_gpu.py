"""What runs on a GPU, held against the CPU. Skipped where llama.cpp finds none.

A build for Vulkan and a driver that computes on the CPU will do (`GGML_VK_VISIBLE_DEVICES=0`, and
`LLAMA_CPP_LIB_PATH` for its libraries): it is slow, but its memory is not the host's.
"""

import llama_cpp
import numpy as np
import pytest

from models import write_model
from quern import gguf_files, llama
from quern.imatrix import shards
from quern.llama import Model, Way
from quern.measure import baseline, comparison
from quern.measure.baseline import Baseline
from quern.measure.comparison import Comparison
from quern.quantize import quantization
from quern.tokens import windows
from quern.tokens.work import Work

NO_GPU = not (llama_cpp.llama_supports_gpu_offload() and llama.devices())
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NO_GPU, reason="llama.cpp finds no GPU: nothing is tried on one"),
]
N_CTX, WINDOWS = 64, 3


def tokens_of(path, text, folder):
    """A model's facts, and the tokens of a text."""
    info = gguf_files.model_info(path)
    with Model(path, load="vocab") as model:
        windows.tokenize_text(model, info.tokenizer_sha256, text, folder / "t.h5")
    return info, windows.read_tokens(folder / "t.h5")


def store(path, info, tokens, output, gpus, **options):
    work = Work(path, info, tokens, N_CTX)
    with work.opened(Way(threads=2, gpus=gpus)) as model:
        return baseline.write_baseline(model, work, output, limit=WINDOWS, **options)


def compared(path, output, base, model, info, gpus):
    """Figures of each position."""
    with Baseline(base, model, info, gpus=gpus) as opened:
        own = Comparison(path, gguf_files.model_info(path), output)
        comparison.compare([own], opened, Way(threads=2, gpus=gpus))
    with baseline.WindowStore.open(output) as found:
        return comparison.read_figures(found)


@pytest.mark.parametrize(
    "options", [{}, {"dtype": "BF16"}, {"dtype": "F32", "tied": True}], ids=str
)
def test_hidden_states_are_proved_and_compared(options, made, tmp_path):
    path = write_model(tmp_path / "m.gguf", **options)
    info, tokens = tokens_of(path, made / "text.txt", tmp_path)
    facts = store(path, info, tokens, tmp_path / "b.h5", 1)
    assert facts["encoding"] == "hidden" and llama.devices()[0] in facts["computed_by"]
    itself = compared(path, tmp_path / "c.h5", tmp_path / "b.h5", path, info, 1)
    assert itself["kld"].max() <= baseline.PROOF_KLD


def test_comparisons_agree_with_those_on_the_cpu(made, tmp_path):
    path, quantized = made / "dense.gguf", tmp_path / "q.gguf"
    info, tokens = tokens_of(path, made / "text.txt", tmp_path)
    quantization.quantize(path, info, quantization.Recipe("Q8_0"), quantized)
    klds = []
    for gpus in (0, 1):
        base = tmp_path / f"{gpus}.b.h5"
        store(path, info, tokens, base, gpus)
        found = compared(quantized, tmp_path / f"{gpus}.c.h5", base, path, info, gpus)
        klds.append(found["kld"].mean())
    assert klds[1] == pytest.approx(klds[0], rel=0.2)


def test_two_contexts_and_parts_say_the_same(made, tmp_path, monkeypatch):
    _, tokens = tokens_of(made / "dense.gguf", made / "text.txt", tmp_path)
    text = tokens.windows(N_CTX, range(WINDOWS))[:]
    found = []
    for contexts in (2, 1):
        with Model(made / "dense.gguf", Way(gpus=1, contexts=contexts), n_ctx=N_CTX) as model:
            assert model.usual_contexts(N_CTX) == 2
            found.append(np.concatenate([rows.copy() for *_, rows in model.logits(text, 32, 63)]))
    assert (found[0] == found[1]).all()


def test_a_model_that_does_not_fit_runs_partly(made, tmp_path, monkeypatch, caplog):
    path = write_model(tmp_path / "m.gguf", n_layer=4)
    _, tokens = tokens_of(path, made / "text.txt", tmp_path)
    text = tokens.windows(N_CTX, [0])[:]
    with Model(path, n_ctx=N_CTX) as model:
        expected = np.concatenate([rows.copy() for *_, rows in model.logits(text, 32, 63)])
    room = sum(tensor.n_bytes for tensor in gguf_files.tensors_of(path).values())
    monkeypatch.setattr("quern.llama.fit.MARGIN", 0)
    monkeypatch.setattr("quern.llama.model.free_on_gpus", lambda: [room])
    with Model(path, Way(gpus=1), n_ctx=N_CTX) as model:
        assert "does not fit" in caplog.text and model.usual_contexts(N_CTX) == 1
        rows = np.concatenate([rows.copy() for *_, rows in model.logits(text, 32, 63)])
    np.testing.assert_allclose(rows, expected, atol=0.05 * np.abs(expected).max())


def test_sums_of_squares_agree_with_those_on_the_cpu(made, tmp_path):
    path = made / "dense.gguf"
    _, tokens = tokens_of(path, made / "text.txt", tmp_path)
    found = []
    for gpus in (0, 1):
        collector = shards.SumsOfSquares()
        with Model(path, Way(gpus=gpus), n_ctx=N_CTX) as model:
            text = tokens.windows(N_CTX, range(WINDOWS))[:]
            list(model.activations(text, lambda name: name.startswith("blk."), collector))
        even, odd = collector.halves
        found.append((even + odd).sums)
    assert found[0].keys() == found[1].keys()
    for name, sums in found[0].items():
        np.testing.assert_allclose(found[1][name], sums, rtol=0.02, err_msg=name)
