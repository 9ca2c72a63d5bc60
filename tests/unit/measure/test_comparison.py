"""Comparing: several models at once, stopping when sure, noise, sources, imported base files."""

import json
import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pandas as pd
import pytest

from conftest import HOUSE, command, fails_with
from quern import gguf_files
from quern.llama import Model
from quern.measure import base_file, baseline, comparison
from quern.measure.baseline import Baseline
from quern.measure.comparison import Candidate, Until
from quern.measure.window_store import StoreInUse, WindowStore, partial_path
from quern.quantize import quantization
from quern.tokens import windows

N_CTX, WINDOWS = 64, 30


@pytest.fixture(scope="module")
def ready(made, tmp_path_factory):
    """Two quantized models of the dense one, its baseline store, and tokens with sources."""
    folder = tmp_path_factory.mktemp("ready")
    info = gguf_files.model_info(made / "dense.gguf")
    text = (made / "text.txt").read_bytes()
    cut = text.index(b" ", 900) + 1
    table = {"part": "text", "source": ["first", "rest"], "offset": [0, cut]}
    pd.DataFrame(table).to_csv(folder / "documents.csv", index=False)
    documents = windows.read_documents(folder / "documents.csv", made / "text.txt")
    with Model(made / "dense.gguf", threads=2) as model:
        windows.tokenize_text(
            model, info.tokenizer_sha256, made / "text.txt", folder / "t.h5", documents
        )
        tokens = windows.read_tokens(folder / "t.h5")
        baseline.write_baseline(model, info, tokens, folder / "b.h5", n_ctx=N_CTX, limit=WINDOWS)
    for kind in ("Q4_0", "Q8_0"):
        recipe, path = quantization.Recipe(kind), folder / f"{kind}.gguf"
        quantization.quantize(made / "dense.gguf", info, recipe, path)
        info_of = gguf_files.model_info(path).as_dict()
        (folder / f"{kind}.json").write_text(json.dumps(info_of))
    return folder


def candidate(ready, kind, output):
    path = ready / f"{kind}.gguf"
    return Candidate(path, gguf_files.model_info(path), output)


def opened(ready, made):
    info = gguf_files.model_info(made / "dense.gguf")
    return Baseline(ready / "b.h5", made / "dense.gguf", info)


def read(path):
    with WindowStore.open(path) as store:
        return comparison.read_figures(store)


def test_several_models_at_once_as_one_by_one(ready, made, tmp_path):
    with opened(ready, made) as baseline:
        both = [candidate(ready, k, tmp_path / f"both-{k}.h5") for k in ("Q4_0", "Q8_0")]
        comparison.compare(both, baseline, threads=2)
        for kind in ("Q4_0", "Q8_0"):
            one = candidate(ready, kind, tmp_path / f"{kind}.h5")
            comparison.compare([one], baseline, threads=2)
            a, b = read(tmp_path / f"{kind}.h5"), read(tmp_path / f"both-{kind}.h5")
            for name, values in a.items():
                assert (values == b[name]).all()


def test_results_do_not_depend_on_interruption_or_threads(ready, made, tmp_path):
    with opened(ready, made) as baseline:
        whole = candidate(ready, "Q4_0", tmp_path / "whole.h5")
        comparison.compare([whole], baseline, threads=2)
        parts = candidate(ready, "Q4_0", tmp_path / "parts.h5")
        for first, last in ((0, 8), (8, 16), (16, WINDOWS)):
            comparison.compare([parts], baseline, threads=1, first=first, last=last)
    a, b = read(tmp_path / "whole.h5"), read(tmp_path / "parts.h5")
    for name, values in a.items():
        np.testing.assert_allclose(values, b[name], atol=1e-3)
    assert (a["kld"] == b["kld"]).mean() > 0.5


def test_a_killed_baseline_goes_on_where_it_stopped(made, tmp_path):
    output = tmp_path / "b.h5"
    line = [
        *(sys.executable, HOUSE / "scripts/baseline.py", "--model", made / "dense.gguf"),
        *("--info", made / "dense.json", "--tokens", made / "dense.h5", "--threads", 1),
        *("--n-ctx", 512, "--store", "logits", "--output", output, "--facts", tmp_path / "f"),
    ]
    line = list(map(str, line))
    process = subprocess.Popen(line, start_new_session=True, stderr=subprocess.DEVNULL)
    done, deadline = 0, time.monotonic() + 60
    while done < 4 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
        if partial_path(output).exists():
            with h5py.File(partial_path(output), locking=False) as h5:
                done = h5["done"][:].sum()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert done >= 4 and not output.exists()
    with _once_free(partial_path(output)) as store:
        before, numbers = store.rows("logits"), np.flatnonzero(store.done)
        assert len(numbers) < len(store.done)
    subprocess.run(line, check=True, capture_output=True)
    with WindowStore.open(output) as store:
        assert store.done.all()
        assert (store.rows("logits")[numbers] == before).all()


def _once_free(path):
    """Open a store as soon as a killed process, not yet buried, has let go of it."""
    for _ in range(100):
        try:
            return WindowStore.open(path)
        except StoreInUse:
            time.sleep(0.05)
    raise AssertionError(f"{path} stays locked")


def test_it_stops_when_sure_and_says_after_how_many_windows(ready, made, tmp_path):
    with opened(ready, made) as baseline:
        for share, stopped in ((0.9, True), (1e-6, False)):
            output = tmp_path / f"{share}.h5"
            comparison.compare(
                [candidate(ready, "Q4_0", output)],
                baseline,
                threads=2,
                until=Until("kld_mean", share),
            )
            result, table = comparison.summarize(output)
            assert result["windows"] == len(table["window"]) == (16 if stopped else WINDOWS)
            # The windows are drawn from all of the text, not taken from its beginning.
            assert (table["window"].max() >= 16) or not stopped


def test_figures_by_source(ready, made, tmp_path):
    with opened(ready, made) as baseline:
        comparison.compare([candidate(ready, "Q4_0", tmp_path / "c.h5")], baseline, threads=2)
    result, _ = comparison.summarize(tmp_path / "c.h5")
    assert set(result["sources"]) == {"first", "rest"}
    parts = result["sources"].values()
    assert sum(part["positions"] for part in parts) == result["positions"]
    mean = sum(p["positions"] * p["figures"]["kld_mean"]["value"] for p in parts)
    assert mean / result["positions"] == pytest.approx(result["figures"]["kld_mean"]["value"])


def test_sources_change_where_the_documents_do(ready, made):
    """Byte-level tokens: the source changes at the token that begins the second document."""
    tokens = windows.read_tokens(ready / "t.h5")
    with Model(made / "dense.gguf", vocab_only=True) as model:
        sizes = model.piece_bytes()
    cut = pd.read_csv(ready / "documents.csv").offset[1]
    numbers = range(tokens.count // N_CTX)
    cut_in_tokens = tokens.windows(N_CTX, numbers)
    sources = cut_in_tokens.sources(slice(None)).ravel()
    with h5py.File(ready / "t.h5") as h5:
        ids = h5["tokens"][: len(sources)]  # without the BOS of each window
    begins = np.concatenate([[0, 0], np.cumsum(sizes[ids[1:]])[:-1]])
    assert (sources == (begins >= cut)).all()


def test_noise_is_small_and_not_nothing(ready, made, tmp_path):
    info = gguf_files.model_info(made / "dense.gguf")
    with opened(ready, made) as baseline:
        own = Candidate(made / "dense.gguf", info, tmp_path / "n.h5")
        comparison.compare([own], baseline, threads=2)
        found = comparison.noise(own, baseline, threads=2, windows=6)
    assert found["windows"] == 6
    assert 0 < found["figures"]["kld_mean"] < 1e-5
    assert 0 < found["figures"]["ppl_ratio"] < 1e-4


def test_the_noise_bounds_what_other_graphs_give(ready, made, tmp_path):
    """All windows, decoded in graphs of sizes that the noise was not measured with."""
    own = candidate(ready, "Q4_0", tmp_path / "own.h5")
    with opened(ready, made) as baseline:
        comparison.compare([own], baseline)
        bound = comparison.noise(own, baseline)["figures"]["kld_mean"]
        value = comparison.summarize(own.output)[0]["figures"]["kld_mean"]["value"]
        moved = []
        for size in (33, 40, 57):
            other = candidate(ready, "Q4_0", tmp_path / f"{size}.h5")
            comparison.compare([other], baseline, tokens_per_graph=size)
            found = comparison.summarize(other.output)[0]["figures"]["kld_mean"]["value"]
            moved.append(abs(found - value))
    assert 0 < max(moved) < 2 * bound


# --- imported base files ---------------------------------------------------------------------


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


def test_an_imported_base_file_can_be_compared_with(ready, made, tmp_path):
    """The store's own logits, passed through the peer's format, give nearly the same figures."""
    with opened(ready, made) as baseline:
        comparison.compare([candidate(ready, "Q4_0", tmp_path / "a.h5")], baseline, threads=2)
        tokens = np.array([baseline.tokens(w) for w in range(4)])
        info = gguf_files.model_info(made / "dense.gguf")
        with Model(made / "dense.gguf", threads=2) as model:
            rows = np.concatenate(
                [r.copy() for _, _, r in model.logits(tokens, N_CTX // 2, N_CTX - 1)]
            )
    rows = rows.reshape(4, -1, info.n_vocab).astype(np.float64)
    rows -= np.log(np.exp(rows).sum(2, keepdims=True))
    write_base_file(tmp_path / "base.dat", tokens, rows)
    base_file.convert(tmp_path / "base.dat", tmp_path / "b.h5")
    with Baseline(tmp_path / "b.h5") as imported:
        comparison.compare([candidate(ready, "Q4_0", tmp_path / "c.h5")], imported, threads=2)
    exact, clipped = read(tmp_path / "a.h5")["kld"][:4], read(tmp_path / "c.h5")["kld"]
    np.testing.assert_allclose(clipped.mean(), exact.mean(), rtol=0.01)
    assert comparison.summarize(tmp_path / "c.h5")[0]["provenance"]["clipped"]
