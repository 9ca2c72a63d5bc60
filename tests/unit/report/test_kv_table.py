"""Types of the K/V cache: figures against numpy's, and the table."""

import numpy as np
import pytest

from quern import files, gguf_files
from quern.llama import Model, Way
from quern.measure import baseline, comparison
from quern.measure.baseline import Baseline
from quern.measure.window_store import WindowStore
from quern.report import kv_table
from quern.tokens import windows
from quern.tokens.work import Work

N_CTX = 96
KINDS = (("f16", "auto"), ("f16", "none"), ("q4_0", "auto"))


@pytest.fixture(scope="module")
def entries(made, tmp_path_factory):
    """The unquantized model compared with itself by type of cache, as the rules do it."""
    folder = tmp_path_factory.mktemp("kv")
    model, info = made / "dense.gguf", gguf_files.ModelInfo.read(made / "dense.json")
    work = Work(model, info, windows.read_tokens(made / "dense.h5"), N_CTX)
    with work.opened(Way(threads=2)) as m:
        baseline.write_baseline(m, work, folder / "b.h5", limit=4)
    found = []
    with Baseline(folder / "b.h5", model, info) as store:
        for number, (kind, flash) in enumerate(KINDS):
            path = folder / f"{number}.h5"
            own, cache = comparison.Comparison(model, info, path), {"kv_type": kind, "flash": flash}
            comparison.compare([own], store, Way(threads=2), **cache)
            result, _ = comparison.summarize(path)
            result["noise"] = comparison.noise(own, store, Way(threads=2), windows=2)
            files.write_json(path.with_suffix(".json"), result)
            names = {"name": "F16", "type": "F16", "imatrix": "none", "info": made / "dense.json"}
            paths = {"compare": path.with_suffix(".json"), "positions": path}
            found.append({k: str(v) for k, v in (names | paths | cache).items()})
    return found


def log_softmax(logits):
    rows = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))


def log_probabilities(model, rows, **options):
    with Model(model, Way(threads=2), **options) as m:
        parts = [part.copy() for _, _, part in m.logits(rows, N_CTX // 2, N_CTX - 1)]
    return log_softmax(np.concatenate(parts))


def test_the_divergence_is_that_of_the_cache_alone(made, entries):
    rows = windows.read_tokens(made / "dense.h5").windows(N_CTX, range(4))[:]
    with Model(made / "dense.gguf", load="vocab") as m:
        rows = m.with_bos(rows)
    p = log_probabilities(made / "dense.gguf", rows)
    q = log_probabilities(made / "dense.gguf", rows, kv_type="q4_0")
    expected = (np.exp(p) * (p - q)).sum(axis=1).mean()
    assert expected > 1e-4
    frame = kv_table.table(entries)
    assert frame.kld_mean[2] == pytest.approx(expected, rel=1e-3)
    assert frame.kld_mean[0] < 1e-8
    assert frame.kld_mean[1] < 1e-2 * expected


def test_each_type_is_held_against_the_first(entries, tmp_path):
    kv_table.write(entries, "T", csv=tmp_path / "t.csv", markdown_path=tmp_path / "t.md")
    frame = kv_table.table(entries)
    assert list(frame.cache) == ["f16", "f16", "q4_0"]
    assert list(frame.flash) == ["auto", "none", "auto"]
    assert frame.kld_mean_difference.isna().tolist() == [True, False, False]
    more = frame.kld_mean[2] - frame.kld_mean[0]
    assert frame.kld_mean_difference[2] == pytest.approx(more, rel=1e-6)
    assert frame.kld_mean_verdict[2] == "worse"
    text = (tmp_path / "t.md").read_text()
    assert "| q4_0 " in text
    assert "windows of 96 tokens, over 4 windows" in text
    before = (tmp_path / "t.csv").read_bytes(), text
    kv_table.write(entries, "T", csv=tmp_path / "t.csv", markdown_path=tmp_path / "t.md")
    assert ((tmp_path / "t.csv").read_bytes(), (tmp_path / "t.md").read_text()) == before


def test_a_comparison_says_how_its_cache_was(entries):
    with WindowStore.open(entries[2]["positions"]) as store:
        assert store.attributes["kv_type"] == "q4_0"
        assert store.attributes["flash"] == "auto"
