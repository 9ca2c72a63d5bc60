"""Tuning: which ways are tried, what trials show, and what stages take up."""

import copy
import json

import numpy as np
import pytest
from scipy import stats

from conftest import command, fails_with
from quern import QuernError, files, gguf_files
from quern.llama import Model, Way
from quern.tokens import windows
from quern.tuning import choice, rounds
from quern.tuning.grid import described, grid, label, way_of
from quern.tuning.taken import taken_up

N_CTX = 192
SETTINGS = rounds.Trials(n_ctx=N_CTX, windows=2, repeats=2)
TWO_THREADS = Way(threads=2)


@pytest.mark.parametrize("n_ctx", [64, 512, 640, 4096])
def test_all_valid_pairs_are_tried_once_and_the_usual_way_first(n_ctx):
    usual = Way(min(2048, n_ctx), min(512, n_ctx), 8, 2)
    ways = grid(n_ctx, usual)
    assert ways[0] == usual
    assert len(set(ways)) == len(ways)
    assert all(w.n_ubatch <= w.n_batch <= n_ctx for w in ways)
    assert {(w.threads, w.contexts) for w in ways} == {(8, 1), (8, 2), (4, 1), (4, 2)}
    sizes = {w.n_batch for w in ways}
    assert sizes == {n for n in (128, 256, 512, 1024, 2048) if n < n_ctx} | {n_ctx}
    pairs = {(w.n_batch, w.n_ubatch) for w in ways}
    assert len(pairs) == len(sizes) * (len(sizes) + 1) // 2


def test_contexts_share_threads_evenly():
    assert all(w.contexts == 1 for w in grid(512, Way(512, 512, 3, 1)))
    assert {w.threads for w in grid(512, Way(512, 512, 1, 1))} == {1}


def test_graphs_are_those_of_a_window():
    assert Way(512, 512, 2, 1).graphs(1300) == [512, 512, 276]
    assert Way(2048, 512, 2, 1).graphs(1300) == [512, 512, 276]
    assert Way(768, 512, 2, 1).graphs(1300) == [512, 256, 512, 20]


def test_a_speedup_is_that_of_a_paired_test():
    rng = np.random.default_rng(0)
    usual, own = rng.lognormal(0, 0.02, 8), rng.lognormal(-0.1, 0.02, 8)
    expected = stats.ttest_rel(np.log(usual), np.log(own)).confidence_interval(1 - 0.05 / 17)
    value, low, high = choice.speedup(usual, own, 17)
    assert np.log([low, high]) == pytest.approx([expected.low, expected.high])
    assert np.log(value) == pytest.approx(np.log(usual / own).mean())
    assert choice.speedup(usual, usual, 17) == (1, 1, 1)


def trials(seconds, **facts):
    """Trials with these seconds of each way and round, the usual way first."""
    known = {"memory_bytes": 1, "same_bits": True}
    ways = [described(way) | known | facts.get(str(i), {}) for i, way in enumerate(seconds)]
    count = len(next(iter(seconds.values())))
    return {
        "settings": {"n_ctx": 512, "windows": 4},
        "ways": ways,
        "rounds": [{label(w): s[i] for w, s in seconds.items()} for i in range(count)],
    }


USUAL, SMALLER, HALF = Way(512, 512, 8, 2), Way(256, 256, 8, 2), Way(512, 512, 4, 1)
STEADY = np.array([1.0, 1.01, 0.99, 1.0, 1.01, 0.99])


def test_the_usual_way_stays_where_nothing_is_credibly_faster():
    lucky = STEADY.copy()
    lucky[2] = 0.1  # the best trial of all
    found = choice.choose(trials({USUAL: STEADY, SMALLER: STEADY * 1.1, HALF: lucky}))
    assert found["fastest"] == found["taken_up"] == found["usual"] == described(USUAL)
    assert "No way is credibly faster" in found["said"]
    assert found["ways"][0]["median"] == pytest.approx(4 * 512)


def test_other_digits_are_recommended_and_not_taken_up():
    rng = np.random.default_rng(1)
    seconds = {
        USUAL: STEADY,
        SMALLER: STEADY * rng.uniform(0.699, 0.701, 6),
        HALF: STEADY * rng.uniform(0.799, 0.801, 6),
    }
    found = choice.choose(trials(seconds))
    assert found["fastest"] == described(SMALLER)  # other graphs
    assert found["taken_up"] == described(HALF)
    assert "do not take it up; they take n_batch 512, n_ubatch 512, threads 4" in found["said"]
    found = choice.choose(trials(seconds, **{"2": {"same_bits": False}}))
    assert found["taken_up"] == described(USUAL)


def test_noise_alone_recommends_rarely():
    rng = np.random.default_rng(2)
    ways = grid(512, USUAL)
    wrong = 0
    for _ in range(200):
        found = choice.choose(trials({w: rng.lognormal(0, 0.1, 6) for w in ways}))
        wrong += found["fastest"] != found["usual"]
    assert wrong <= 0.05 * 200


@pytest.fixture(scope="module")
def text(made):
    """Windows to decode."""
    tokens = windows.read_tokens(made / "dense.h5")
    return tokens.windows(N_CTX, range(rounds.WARM + SETTINGS.windows))[:]


@pytest.fixture(scope="module")
def found(made, text, tmp_path_factory):
    """Trials of a small model, and the rounds that were kept."""
    kept = tmp_path_factory.mktemp("tuning") / "kept.json"
    info = gguf_files.ModelInfo.read(made / "dense.json")
    result = rounds.trials(made / "dense.gguf", info.sha256, text, SETTINGS, kept, Way(threads=2))
    return result, kept


def test_each_way_has_a_trial_a_round(found):
    result, _ = found
    labels = [label(way_of(facts)) for facts in result["ways"]]
    assert labels[0] == "n_batch 192, n_ubatch 192, threads 2, contexts 2"
    assert len(labels) == 3 * 3
    assert [set(r) for r in result["rounds"]] == [set(labels)] * 2
    assert min(min(r.values()) for r in result["rounds"]) > 0
    assert result["ways"][0]["same_bits"]
    memory = {name: way["memory_bytes"] for name, way in zip(labels, result["ways"], strict=True)}
    one, two = (memory[f"n_batch 192, n_ubatch 192, threads 2, contexts {n}"] for n in (1, 2))
    assert two == 2 * one > 0


def test_other_last_digits_are_seen(made, text):
    usual, odd = Way(N_CTX, N_CTX, 2, 2), Way(93, 93, 2, 2)  # leaves a row where kernels take four
    with Model(made / "dense.gguf", Way(threads=2)) as model:
        known, failed = rounds._described(model, [usual, odd], text, SETTINGS)
    assert [known[way]["same_bits"] for way in (usual, odd)] == [True, False]
    assert not failed


def test_rounds_that_are_done_are_kept(made, text, found, tmp_path):
    result, kept = found
    partial = files.read_json(kept)
    files.write_json(tmp_path / "k.json", partial | {"rounds": partial["rounds"][:1]})
    sha256 = result["provenance"]["model_sha256"]
    again = rounds.trials(
        made / "dense.gguf", sha256, text, SETTINGS, tmp_path / "k.json", Way(threads=2)
    )
    assert again["rounds"][0] == result["rounds"][0]
    assert len(again["rounds"]) == 2


def test_the_clock_counts_no_context_and_no_first_window(made, text, monkeypatch):
    now = iter(range(1000))
    monkeypatch.setattr(rounds.time, "perf_counter", lambda: next(now))
    with Model(made / "dense.gguf", Way(threads=2)) as model:
        # One tick at the beginning, one a window: those after the second count.
        assert rounds.seconds_of(model, text, SETTINGS) == SETTINGS.windows


def tuned(found, folder, **way):
    """A result of tuning that has stages decode otherwise than usual."""
    result = copy.deepcopy(choice.choose(found[0]))
    result["taken_up"] = result["usual"] | way
    files.write_json(folder / f"{N_CTX}.json", result)
    return result


def take(found, folder, usual=TWO_THREADS, **changed):
    wanted = {"model_sha256": found[0]["provenance"]["model_sha256"], "n_ctx": N_CTX}
    return taken_up(folder, usual, **wanted | changed)


def test_what_was_tuned_for_the_same_work_is_taken_up(found, tmp_path, caplog):
    tuned(found, tmp_path, threads=1, contexts=1)
    assert take(found, tmp_path) == Way(threads=1, contexts=1, n_batch=N_CTX)
    assert take(found, None) == take(found, tmp_path, n_ctx=64) == TWO_THREADS
    assert not caplog.records
    assert take(found, tmp_path, model_sha256="0" * 64) == TWO_THREADS
    assert "another model and is ignored" in caplog.text
    assert take(found, tmp_path, Way(threads=4)) == Way(threads=4)
    assert "another number of threads and is ignored" in caplog.text


def test_a_tuning_of_another_machine_is_ignored(found, tmp_path, caplog):
    result = tuned(found, tmp_path, threads=1)
    result["machine"]["memory_bytes"] += 4096  # another kernel
    files.write_json(tmp_path / f"{N_CTX}.json", result)
    assert take(found, tmp_path).threads == 1
    result["machine"]["cpu"] = "another"
    files.write_json(tmp_path / f"{N_CTX}.json", result)
    assert take(found, tmp_path) == TWO_THREADS
    assert "another machine and is ignored" in caplog.text


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ({"threads": 0}, "threads: 0 is less than the minimum of 1"),
        ({"threads": 3}, "'threads': 3"),  # two were tuned
        ({"n_batch": 2 * N_CTX}, "'n_batch': 384"),
        ({"contexts": 0.5}, "contexts: 0.5 is not of type 'integer'"),
    ],
)
def test_a_tuning_that_cannot_be_is_a_sentence(found, tmp_path, way, said):
    tuned(found, tmp_path, **way)
    with pytest.raises(QuernError, match=rf"192\.json holds what cannot be .*{said}"):
        take(found, tmp_path)


def test_stages_have_the_same_bytes_with_a_tuning(made, found, tmp_path):
    tuned(found, tmp_path, threads=1, contexts=1)
    model = ("--model", made / "dense.gguf", "--info", made / "dense.json")
    cut = ("--n-ctx", N_CTX, "--to", 5, "--threads", 2, "--tokens", made / "dense.h5")
    for name, more in (("plain", ()), ("tuned", ("--tuning", tmp_path, "--log", tmp_path / "l"))):
        for script, own in (("baseline", ("--facts", tmp_path / "f")), ("imatrix_shard", ())):
            out = tmp_path / f"{name}.{script}.h5"
            result = command(script, *model, *cut, "--output", out, *own, *more)
            assert result.returncode == 0, result.stderr
        base = ("--baseline", tmp_path / f"{name}.baseline.h5")
        base += ("--baseline-model", model[1], "--baseline-info", model[3])
        outputs = [
            item
            for key in ("output", "windows", "summary", "text")
            for item in (f"--{key}", tmp_path / f"{name}.{key}")
        ]
        again = ("--to", 5, "--threads", 2, "--noise-windows", 2)
        result = command("compare", *model, *base, *again, *outputs, *more)
        assert result.returncode == 0, result.stderr
    assert "'threads': 1" in (tmp_path / "l").read_text()
    for name in ("baseline.h5", "imatrix_shard.h5", "output", "summary"):
        plain, other = (tmp_path / f"{which}.{name}" for which in ("plain", "tuned"))
        assert plain.read_bytes() == other.read_bytes(), name


def tune(made, folder, *more):
    return command(
        "tune",
        *("--model", made / "dense.gguf", "--info", made / "dense.json"),
        *("--tokens", made / "dense.h5", "--n-ctx", 64, "--threads", 2),
        *("--output", folder / "64.json", "--trials", folder / "64.csv", *more),
    )


def test_the_command(made, tmp_path):
    result = tune(made, tmp_path, "--windows", 2, "--repeats", 2)
    assert result.returncode == 0, result.stderr
    assert "usual way" in result.stdout or "No way" in result.stdout
    assert sorted(p.name for p in tmp_path.glob("[!.]*")) == ["64.csv", "64.json"]
    rows = (tmp_path / "64.csv").read_text().splitlines()
    assert rows[0] == "n_batch,n_ubatch,threads,contexts,round,seconds"
    assert len(rows) == 1 + 3 * 2
    assert json.loads((tmp_path / "64.json").read_text())["settings"]["threads"] == 2


def test_what_cannot_be_timed_is_a_sentence(made, tmp_path):
    fails_with(tune(made, tmp_path, "--windows", 3), "even number of windows")
    fails_with(tune(made, tmp_path, "--repeats", 1), "at least 2 repeats")
    assert not any(tmp_path.iterdir())
