"""Comparing over common tokens, against a float64 computation from both models' logits."""

import numpy as np
import pytest

import references
from models import write_model
from quern import QuernError, gguf_files
from quern.llama import Model, Way
from quern.measure import baseline, comparison
from quern.measure.baseline import Baseline
from quern.measure.comparison import Comparison
from quern.quantize import quantization
from quern.tokens import windows
from quern.tokens.work import Work

N_CTX, WINDOWS, TOKENS = 64, 3, 300


@pytest.fixture(scope="module")
def models(made, tmp_path_factory):
    """The plain model and a padded one, and Q4_0 of each."""
    folder = tmp_path_factory.mktemp("padded")
    found = {"plain": made / "dense.gguf", "padded": folder / "padded.gguf"}
    write_model(found["padded"], padding=20)
    for name in ("plain", "padded"):
        info = gguf_files.model_info(found[name])
        found[f"{name} q"] = folder / f"{name}-q.gguf"
        recipe = quantization.Recipe("Q4_0", pure=True)
        quantization.quantize(found[name], info, recipe, found[f"{name} q"])
    return found


def logits_of(path, tokens):
    with Model(path, Way(threads=2)) as model:
        parts = [rows.copy() for *_, rows in model.logits(tokens, N_CTX // 2, N_CTX - 1)]
    return np.concatenate(parts)[:, :TOKENS]


@pytest.mark.parametrize("store", ["hidden", "logits"])
@pytest.mark.parametrize(("base", "other"), [("plain", "padded q"), ("padded", "plain q")])
def test_figures_over_common_tokens(models, made, tmp_path, base, other, store):
    base, other = models[base], models[other]
    info = gguf_files.model_info(base)
    with Model(base, Way(threads=2)) as model:
        windows.tokenize_text(model, info.tokenizer_sha256, made / "text.txt", tmp_path / "t.h5")
        work = Work(base, info, windows.read_tokens(tmp_path / "t.h5"), N_CTX)
        baseline.write_baseline(model, work, tmp_path / "b.h5", limit=WINDOWS, store=store)
    own = Comparison(other, gguf_files.model_info(other), tmp_path / "c.h5")
    with Baseline(tmp_path / "b.h5", base, info) as opened:
        comparison.compare([own], opened, Way(threads=2))
        texts = np.array([opened.tokens(w) for w in range(WINDOWS)])
    result, _ = comparison.summarize(own.output)
    targets = texts[:, N_CTX // 2 + 1 :].ravel()
    expected = references.divergence(logits_of(base, texts), logits_of(other, texts), targets)
    found = {name: figure["value"] for name, figure in result["figures"].items()}
    assert found["kld_mean"] == pytest.approx(expected["kld"].mean(), rel=1e-4)
    assert found["ppl"] == pytest.approx(np.exp(expected["nll"].mean()), rel=1e-5)
    assert found["ppl_base"] == pytest.approx(np.exp(expected["nll_base"].mean()), rel=1e-5)
    assert result["provenance"]["common_tokens"] == TOKENS
    assert "Compared over the 300 tokens" in result["provenance"]["vocabulary"]


def test_a_text_with_other_tokens_is_refused(models, made, tmp_path):
    """The text has a token that only the baseline knows."""
    info = gguf_files.model_info(models["padded"])
    text = tmp_path / "t.txt"
    text.write_text("[PAD3]".join((made / "text.txt").read_text()[i : i + 20] for i in range(400)))
    with Model(models["padded"], Way(threads=2)) as model:
        windows.tokenize_text(model, info.tokenizer_sha256, text, tmp_path / "t.h5", special=True)
        work = Work(models["padded"], info, windows.read_tokens(tmp_path / "t.h5"), N_CTX)
        baseline.write_baseline(model, work, tmp_path / "b.h5", limit=2)
    other = models["plain q"]
    own = Comparison(other, gguf_files.model_info(other), tmp_path / "c.h5")
    with (
        Baseline(tmp_path / "b.h5", models["padded"], info) as opened,
        pytest.raises(QuernError, match="has the token 303, which is not among the 300"),
    ):
        comparison.compare([own], opened)


def test_another_model_is_refused(models, made, tmp_path):
    info = gguf_files.model_info(made / "dense.gguf")
    for options, words in (
        ({"n_layer": 3}, "it has 3 blocks, not 2"),
        ({"n_embd": 128}, "has 1 × 128 columns, not 1 × 256"),
        ({"architecture": "qwen2"}, "its architecture is qwen2, not llama"),
    ):
        path = write_model(tmp_path / "other.gguf", **options)
        with pytest.raises(QuernError, match=f"is not a quantization of .*: .*{words}"):
            gguf_files.require_same_shapes(
                gguf_files.model_info(path), path, info, made / "dense.gguf"
            )
