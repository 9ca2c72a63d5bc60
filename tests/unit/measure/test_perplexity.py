"""Perplexity alone: windows and scored tokens of llama-perplexity, figures, and the command."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax

from conftest import command, fails_with
from quern import QuernError, files, gguf_files
from quern.llama import Model, Way
from quern.measure import divergence, perplexity
from quern.report import perplexity_table
from quern.tokens import windows
from quern.tokens.work import Work
from quern.vocabulary import Common


@pytest.fixture(scope="module")
def tokens(made):
    """The tokens of a text."""
    return windows.read_tokens(made / "dense.h5")


@pytest.fixture(scope="module")
def work_of(made, tokens):
    """A function that cuts the tokens into windows of 64."""
    info = gguf_files.model_info(made / "dense.gguf")
    return lambda **options: Work(made / "dense.gguf", info, tokens, 64, **options)


@pytest.fixture(scope="module")
def stores(work_of, tmp_path_factory):
    """What the tokens cost in windows apart, and in windows that overlap."""
    folder = tmp_path_factory.mktemp("perplexity")
    for name, stride in (("plain", None), ("strided", 24)):
        work = work_of(stride=stride)
        with work.opened(Way(threads=2)) as model:
            perplexity.measure(model, work, folder / f"{name}.h5", 12)
    return folder


def likelihood(made, sequence, position):
    """-ln of the probability of the token at a position, in float64, from one decode."""
    with Model(made / "dense.gguf") as model:
        batch = np.array([sequence], np.int32)
        for _, _, logits in model.logits(batch, position - 1, position):
            return -log_softmax(logits[0].astype(np.float64))[sequence[position]]


def test_windows_apart_begin_with_bos_and_their_second_half_is_scored(made, tokens, stores):
    nll, _ = perplexity.read(stores / "plain.h5")
    assert nll.shape == (12, 31)
    window = tokens.windows(64, [5])[:][0]
    assert window[0] == tokens.bos
    for column, position in ((0, 33), (30, 63)):
        assert nll[5, column] == pytest.approx(likelihood(made, window, position), rel=1e-5)


def test_by_stride_each_token_is_scored_once_after_a_window_of_the_text_itself(
    made, tokens, stores
):
    nll, _ = perplexity.read(stores / "strided.h5")
    assert nll.shape == (12, 24)
    text = tokens.windows(tokens.count, [0], tokens.count)[:][0]
    for window, column in ((0, 0), (3, 10), (11, 23)):
        begin = 24 * window
        sequence = text[begin : begin + 64]
        # Scored tokens go on, one after the other, from window to window.
        position = 40 + column
        assert begin + position == 40 + 24 * window + column
        assert nll[window, column] == pytest.approx(likelihood(made, sequence, position), rel=1e-5)


def test_as_many_windows_overlap_as_llama_perplexity_has(tokens):
    for n_ctx, stride in ((64, 24), (100, 1), (64, 63)):
        n = tokens.n_overlapping(n_ctx, stride)
        assert n == (tokens.count - n_ctx + stride - 1) // stride
        assert tokens.windows(n_ctx, [n - 1], stride)[:].shape == (1, n_ctx)


def test_likelihoods_are_the_bits_of_a_comparison():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 5, (37, 9001)).astype(np.float32)
    targets = rng.integers(0, 9001, 37)
    with ThreadPoolExecutor(2) as pool:
        both = divergence.position_figures(logits, logits, targets, pool)["nll"]
        alone = divergence.likelihoods(logits, targets, pool)
        logits[3, 5] = np.inf
        broken = divergence.likelihoods(logits, targets, pool)
    assert both.tobytes() == alone.tobytes()
    assert np.flatnonzero(~np.isfinite(broken)).tolist() == [3]


def test_figures_are_those_of_the_likelihoods(stores):
    found = perplexity.summarize(stores / "plain.h5")
    nll, _ = perplexity.read(stores / "plain.h5")
    ppl = found["figures"]["ppl"]
    assert ppl["value"] == pytest.approx(np.exp(nll.mean()), rel=1e-12)
    error = nll.std() / np.sqrt(nll.size - 1) * np.exp(nll.mean())
    assert ppl["plus_minus"] == pytest.approx(error, rel=1e-9)
    assert ppl["low"] < ppl["value"] < ppl["high"]
    assert (found["windows"], found["blocks"], found["positions"]) == (12, 12, 12 * 31)


def test_windows_that_overlap_are_resampled_together(stores):
    found = perplexity.summarize(stores / "strided.h5")
    nll, _ = perplexity.read(stores / "strided.h5")
    assert (found["windows"], found["blocks"]) == (12, 4)  # three strides cover a window
    assert found["figures"]["nll"]["value"] == pytest.approx(nll.mean(), rel=1e-12)


def test_windows_that_all_share_tokens_have_no_interval(made, tmp_path):
    """Of a stride of 8, eight windows cover 64 tokens, so they are one block."""
    entries = []
    for name in ("one", "two"):
        result = measured(made, tmp_path, name, "--stride", 8, windows=8)
        assert result.returncode == 0, result.stderr
        assert "[" not in result.stdout and "All windows share tokens" in result.stdout
        summary, positions = tmp_path / f"{name}.json", tmp_path / f"{name}.h5"
        entries.append({"name": name, "summary": summary, "positions": positions})
    found = files.read_json(tmp_path / "one.json")
    assert (found["windows"], found["blocks"]) == (8, 1)
    assert found["figures"]["ppl"]["low"] is found["figures"]["ppl"]["high"] is None
    table, text = tmp_path / "t.csv", tmp_path / "t.md"
    perplexity_table.write(entries, "A title", csv=table, markdown_path=text)
    ends = ["ppl_low", "ppl_high", "ln_ratio_low", "ln_ratio_high"]
    assert pd.read_csv(table)[ends].isna().all(axis=None)
    assert found["no_interval"] in text.read_text() and "–" not in text.read_text()
    more = measured(made, tmp_path, "more", "--stride", 8, windows=16)
    assert "All windows" not in more.stdout and "[" in more.stdout


def test_an_interrupted_run_goes_on_to_the_same_bytes(made, work_of, stores, tmp_path):
    calls = []

    class Interrupted(Model):
        def logits(self, *arguments):
            for step in super().logits(*arguments):
                calls.append(step[0])
                if len(calls) == 5:
                    raise KeyboardInterrupt
                yield step

    way = Way(threads=2)
    with pytest.raises(KeyboardInterrupt), Interrupted(made / "dense.gguf", way) as model:
        perplexity.measure(model, work_of(), tmp_path / "p.h5", 12)
    with Interrupted(made / "dense.gguf", way) as model:
        perplexity.measure(model, work_of(), tmp_path / "p.h5", 12)
    assert len(calls) == 5 + 12 - 4
    assert (tmp_path / "p.h5").read_bytes() == (stores / "plain.h5").read_bytes()


@pytest.mark.parametrize(
    "stride, shared, words",
    [
        (64, None, "a stride of 64 does not fit"),
        (8, Common(40, "padded"), "only the first 40 in common"),
    ],
)
def test_what_does_not_fit_is_a_sentence(made, work_of, tmp_path, stride, shared, words):
    with Model(made / "dense.gguf") as model, pytest.raises(QuernError, match=words):
        work = work_of(stride=stride, shared=shared)
        perplexity.measure(model, work, tmp_path / "p.h5", 2)


def test_mixed_windows_do_not_overlap(tokens):
    mixed = windows.Tokens(tokens.path, tokens.count, 256, "", "", (), 64)
    with pytest.raises(QuernError, match="none can overlap"):
        mixed.n_overlapping(64, 8)


def measured(made, folder, name, *more, info=None, windows=12):
    return command(
        "perplexity",
        *("--model", made / "dense.gguf", "--info", info or made / "dense.json"),
        *("--tokens", made / "dense.h5", "--n-ctx", 64, "--windows", windows, "--threads", 2),
        *("--output", folder / f"{name}.h5", "--summary", folder / f"{name}.json", *more),
    )


def test_the_commands(made, stores, tmp_path):
    for name in ("first", "second"):
        result = measured(made, tmp_path, name)
        assert result.returncode == 0, result.stderr
        assert "PPL = " in result.stdout
    assert (tmp_path / "first.h5").read_bytes() == (stores / "plain.h5").read_bytes()
    files.write_failure(tmp_path / "none.json", "no imatrix")
    assert measured(made, tmp_path, "failed", info=tmp_path / "none.json").returncode == 0
    entries = [
        {"name": n, "summary": tmp_path / f"{n}.json", "positions": tmp_path / f"{n}.h5"}
        for n in ("first", "second", "failed")
    ]
    perplexity_table.write(
        entries, "A title", csv=tmp_path / "t.csv", markdown_path=tmp_path / "t.md"
    )
    frame = perplexity_table.table(entries)
    assert frame.model.tolist() == ["first", "second"]
    assert np.isnan(frame.ln_ratio[0])
    assert frame.loc[1, ["ln_ratio", "ln_ratio_low", "ln_ratio_high"]].tolist() == [0, 0, 0]
    text = (tmp_path / "t.md").read_text()
    assert "second half" in text
    assert "`failed` failed**: no imatrix" in text
    result = measured(made, tmp_path, "strided", "--stride", 24)
    assert result.returncode == 0, result.stderr
    other = {
        "name": "s",
        "summary": tmp_path / "strided.json",
        "positions": tmp_path / "strided.h5",
    }
    with pytest.raises(QuernError, match="stride = 24"):
        perplexity_table.table([entries[0], other])


def test_another_tokenizer(made, tmp_path):
    info = files.read_json(made / "dense.json") | {"tokenizer_sha256": "0" * 64}
    files.write_json(tmp_path / "other.json", info)
    fails_with(measured(made, tmp_path, "x", info=tmp_path / "other.json"), "another tokenizer")
    result = measured(
        made, tmp_path, "x", "--tokenized-for", made / "dense.gguf", info=tmp_path / "other.json"
    )
    assert result.returncode == 0, result.stderr
