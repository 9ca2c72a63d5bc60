"""Comparing: several models at once, stopping when sure, noise, sources, imported base files."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pandas as pd
import pytest

from conftest import HOUSE, fails_with
from quern import gguf_files
from quern.llama import Model, Way, library
from quern.measure import comparison
from quern.measure.comparison import Comparison, Until
from quern.measure.window_store import StoreInUse, WindowStore, partial_path
from quern.tokens import windows

N_CTX, WINDOWS = 64, 30


def test_several_models_at_once_as_one_by_one(opened, of_type, read, tmp_path):
    with opened() as baseline:
        both = [of_type(k, tmp_path / f"both-{k}.h5") for k in ("Q4_0", "Q8_0")]
        comparison.compare(both, baseline, Way(threads=2))
        for kind in ("Q4_0", "Q8_0"):
            one = of_type(kind, tmp_path / f"{kind}.h5")
            comparison.compare([one], baseline, Way(threads=2))
            a, b = read(tmp_path / f"{kind}.h5"), read(tmp_path / f"both-{kind}.h5")
            for name, values in a.items():
                assert (values == b[name]).all()


def test_results_do_not_depend_on_interruption_or_threads(opened, of_type, read, tmp_path):
    with opened() as baseline:
        whole = of_type("Q4_0", tmp_path / "whole.h5")
        comparison.compare([whole], baseline, Way(threads=2))
        parts = of_type("Q4_0", tmp_path / "parts.h5")
        for first, last in ((0, 8), (8, 16), (16, WINDOWS)):
            comparison.compare([parts], baseline, Way(threads=1), first=first, last=last)
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


def test_it_stops_when_sure_and_says_after_how_many_windows(opened, of_type, tmp_path):
    with opened() as baseline:
        for share, stopped in ((0.9, True), (1e-6, False)):
            output = tmp_path / f"{share}.h5"
            comparison.compare(
                [of_type("Q4_0", output)],
                baseline,
                Way(threads=2),
                until=Until("kld_mean", share),
            )
            result, table = comparison.summarize(output)
            assert result["windows"] == len(table["window"]) == (16 if stopped else WINDOWS)
            # The windows are drawn from all of the text, not taken from its beginning.
            assert (table["window"].max() >= 16) or not stopped


def test_figures_by_source(opened, of_type, tmp_path):
    with opened() as baseline:
        comparison.compare([of_type("Q4_0", tmp_path / "c.h5")], baseline, Way(threads=2))
    result, _ = comparison.summarize(tmp_path / "c.h5")
    assert set(result["sources"]) == {"first", "rest"}
    parts = result["sources"].values()
    assert sum(part["positions"] for part in parts) == result["positions"]
    mean = sum(p["positions"] * p["figures"]["kld_mean"]["value"] for p in parts)
    assert mean / result["positions"] == pytest.approx(result["figures"]["kld_mean"]["value"])


def test_sources_change_where_the_documents_do(ready, made):
    """Byte-level tokens: the source changes at the token that begins the second document."""
    tokens = windows.read_tokens(ready / "t.h5")
    with Model(made / "dense.gguf", load="vocab") as model:
        sizes = model.piece_bytes()
    cut = pd.read_csv(ready / "documents.csv").offset[1]
    numbers = range(tokens.count // N_CTX)
    cut_in_tokens = tokens.windows(N_CTX, numbers)
    sources = cut_in_tokens.sources(slice(None)).ravel()
    with h5py.File(ready / "t.h5") as h5:
        ids = h5["tokens"][: len(sources)]  # without the BOS of each window
    begins = np.concatenate([[0, 0], np.cumsum(sizes[ids[1:]])[:-1]])
    assert (sources == (begins >= cut)).all()


def test_noise_is_small_and_not_nothing(made, opened, tmp_path):
    info = gguf_files.model_info(made / "dense.gguf")
    with opened() as baseline:
        own = Comparison(made / "dense.gguf", info, tmp_path / "n.h5")
        comparison.compare([own], baseline, Way(threads=2))
        found = comparison.noise(own, baseline, Way(threads=2), windows=6)
    assert found["windows"] == 6
    assert 0 < found["figures"]["kld_mean"] < 1e-5
    assert 0 < found["figures"]["ppl_ratio"] < 1e-4


def test_the_noise_bounds_what_other_graphs_give(opened, of_type, tmp_path):
    """All windows, decoded in graphs of sizes that the noise was not measured with."""
    own = of_type("Q4_0", tmp_path / "own.h5")
    with opened() as baseline:
        comparison.compare([own], baseline)
        bound = comparison.noise(own, baseline)["figures"]["kld_mean"]
        value = comparison.summarize(own.output)[0]["figures"]["kld_mean"]["value"]
        moved = []
        for size in (33, 40, 57):
            other = of_type("Q4_0", tmp_path / f"{size}.h5")
            comparison.compare([other], baseline, Way(n_ubatch=size))
            found = comparison.summarize(other.output)[0]["figures"]["kld_mean"]["value"]
            moved.append(abs(found - value))
    assert 0 < max(moved) < 2 * bound


# --- imported base files ---------------------------------------------------------------------


def test_another_build_of_the_same_version_is_recorded_and_said(ready, made, tmp_path):
    """The library as it is and with a byte more, which changes nothing but its hash."""
    libraries = tmp_path / "lib"
    shutil.copytree(library.FOLDER, libraries)
    for path in libraries.glob("libggml-cpu.*"):
        path.write_bytes(path.read_bytes() + b"\0")
    names = {key: tmp_path / f"c.{key}" for key in ("h5", "csv", "json", "txt")}
    line = [
        *(sys.executable, HOUSE / "scripts/compare.py", "--to", 4, "--baseline", ready / "b.h5"),
        *("--model", ready / "Q4_0.gguf", "--info", ready / "Q4_0.json"),
        *("--baseline-model", made / "dense.gguf", "--baseline-info", made / "dense.json"),
        *("--output", names["h5"], "--windows", names["csv"], "--summary", names["json"]),
        *("--text", names["txt"]),
    ]
    other = os.environ | {"LLAMA_CPP_LIB_PATH": str(libraries)}
    line = list(map(str, line))
    subprocess.run(line, env=other, check=True, capture_output=True)
    provenance = json.loads(names["json"].read_text())["provenance"]
    assert provenance["baseline_computed_by"] == library.computed_by()
    assert provenance["computed_by"] != library.computed_by()
    assert library.computed_by() in names["txt"].read_text()
    # A comparison is not begun by one build and finished by another.
    mixed = subprocess.run(line, capture_output=True, text=True)
    fails_with(mixed, "computed_by", library.build())
