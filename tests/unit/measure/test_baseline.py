"""Baseline stores: which encoding is taken, what it is worth, how it is extended."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from models import write_model
from quern import QuernError, gguf_files
from quern.llama import Model, Way
from quern.measure import baseline
from quern.measure.baseline import Baseline
from quern.measure.window_store import WindowStore
from quern.tokens import windows
from quern.tokens.work import Work

N_CTX = 64
MODELS = {
    "llama": ({}, "hidden", "float16"),
    "llama tied": ({"tied": True}, "hidden", "float16"),
    "llama bf16": ({"dtype": "BF16"}, "hidden", "bfloat16"),
    "llama f32": ({"dtype": "F32"}, "hidden", "float32"),
    "gemma2 soft-cap": (
        {"architecture": "gemma2", "tied": True, "softcap": 100.0}, "hidden", "float16",
    ),
    "granite scale": ({"architecture": "granite", "logit_scale": 8.0}, "hidden", "float16"),
    "qwen2 bias": ({"architecture": "qwen2", "output_bias": True}, "hidden", "float16"),
    # llama.cpp caps gemma2's logits at 30 where the metadata says nothing: not to be guessed.
    "gemma2 silent": ({"architecture": "gemma2", "tied": True}, "logits", "float32"),
}  # fmt: skip


class Made:
    """A model with its facts and the tokens of a text."""

    def __init__(self, folder, text, **options):
        self.path = write_model(folder / "m.gguf", **options)
        self.info = gguf_files.model_info(self.path)
        with Model(self.path, load="vocab") as model:
            windows.tokenize_text(model, self.info.tokenizer_sha256, text, folder / "t.h5")
        self.tokens = windows.read_tokens(folder / "t.h5")

    def write(self, output, n_ctx=N_CTX, n_batch=512, **options):
        work = Work(self.path, self.info, self.tokens, n_ctx)
        with work.opened(Way(n_batch=n_batch, threads=2)) as model:
            return baseline.write_baseline(model, work, output, **{"limit": 5} | options)

    def read(self, store, window):
        with Baseline(store, self.path, self.info) as baseline, ThreadPoolExecutor(2) as pool:
            rows = baseline.logits(window, 0, baseline.n_scored, pool)[0 : baseline.n_scored]
            return np.array(rows, np.float32)


@pytest.fixture(params=MODELS)
def case(request, tmp_path, made):
    options, encoding, dtype = MODELS[request.param]
    return Made(tmp_path, made / "text.txt", **options), encoding, dtype


def test_auto_takes_hidden_states_only_where_they_are_proved(case, tmp_path):
    model, encoding, dtype = case
    facts = model.write(tmp_path / "b.h5")
    assert (facts["encoding"], facts["dtype"]) == (encoding, dtype), facts["encoding_reason"]
    if encoding == "hidden":
        assert facts["reconstruction_kld"] <= 1e-9
        assert facts["bytes_per_token"] < 256 * 4 + 20
    else:
        assert "off by a KLD of" in facts["encoding_reason"]
    model.write(tmp_path / "l.h5", store="logits")
    for window in (0, 2, 4):
        again = model.read(tmp_path / "b.h5", window)
        np.testing.assert_allclose(again, model.read(tmp_path / "l.h5", window), atol=2e-2)


def test_what_cannot_be_proved_is_refused_when_asked_for(tmp_path, made):
    options, _, _ = MODELS["gemma2 silent"]
    model = Made(tmp_path, made / "text.txt", **options)
    with pytest.raises(QuernError, match=r"off by a KLD of .* use the store `auto`"):
        model.write(tmp_path / "b.h5", store="hidden")
    assert not (tmp_path / "b.h5").exists()


@pytest.fixture
def dense(tmp_path, made):
    return Made(tmp_path, made / "text.txt")


def test_hidden_states_need_the_model(dense, tmp_path):
    dense.write(tmp_path / "b.h5")
    with pytest.raises(QuernError, match="keeps hidden states: give --baseline-model"):
        Baseline(tmp_path / "b.h5")


def test_other_output_weights_are_refused(dense, tmp_path):
    dense.write(tmp_path / "b.h5")
    write_model(dense.path, seed=1)
    with pytest.raises(QuernError, match="made with other output weights"):
        dense.read(tmp_path / "b.h5", 0)


def test_float16_logits_say_what_they_cost(dense, tmp_path):
    facts = dense.write(tmp_path / "b.h5", store="logits", logits_type="float16")
    assert 0 < facts["reconstruction_kld"] < 1e-4
    dense.write(tmp_path / "c.h5", store="logits")
    half, full = (dense.read(tmp_path / name, 3) for name in ("b.h5", "c.h5"))
    assert (half == full.astype(np.float16)).all()


def test_a_store_grows_and_shrinks_with_the_windows_asked_for(dense, tmp_path):
    dense.write(tmp_path / "b.h5", limit=3)
    with WindowStore.open(tmp_path / "b.h5") as store:
        first = store.rows("hidden")
    dense.write(tmp_path / "b.h5", limit=6)
    with WindowStore.open(tmp_path / "b.h5") as store:
        assert store.done.tolist() == [True] * 6
        assert (store.rows("hidden")[:3] == first).all()
    dense.write(tmp_path / "b.h5", limit=2)
    dense.write(tmp_path / "c.h5", limit=2)
    with WindowStore.open(tmp_path / "b.h5") as a, WindowStore.open(tmp_path / "c.h5") as b:
        # That was proved on the first and the last of the windows that were asked for first.
        proved = [store.attributes.pop("reconstruction_kld") for store in (a, b)]
        assert a.attributes == b.attributes and max(proved) < baseline.PROOF_KLD
        assert a.done.tolist() == [True] * 2


def test_long_windows_go_in_parts(dense, tmp_path, monkeypatch):
    """Small bounds force many decode calls; the logits stay what they were."""
    dense.write(tmp_path / "a.h5", n_ctx=512, limit=2, store="logits")
    monkeypatch.setattr("quern.llama.model.LOGITS_BYTES", 300 * 4 * 50)
    for store in ("logits", "hidden"):
        dense.write(tmp_path / f"{store}.h5", n_ctx=512, n_batch=100, limit=2, store=store)
        again, whole = (dense.read(tmp_path / f, 1) for f in (f"{store}.h5", "a.h5"))
        np.testing.assert_allclose(again, whole, atol=3e-2)
