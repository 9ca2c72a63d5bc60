"""Speeds in rounds: what is measured, what is kept, and the command."""

import copy
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from conftest import command, fails_with
from quern import QuernError, files, gguf_files, llama
from quern.speed import figures, machine, rounds

SETTINGS = rounds.Timing(prompt=48, generation=4, depths=(0, 32), repeats=3)


@pytest.fixture(scope="module")
def timed(made):
    """Two models to time."""
    infos = {name: gguf_files.ModelInfo.read(made / f"{name}.json") for name in ("dense", "moe")}
    return [
        rounds.Timed(name, made / f"{name}.gguf", info.sha256, info.file_bytes)
        for name, info in infos.items()
    ]


@pytest.fixture(scope="module")
def found(timed, tmp_path_factory):
    """A result, and the rounds that were kept."""
    kept = tmp_path_factory.mktemp("speed") / "kept.json"
    return rounds.speeds(timed, SETTINGS, kept, llama.Way(threads=2)), kept


def test_each_model_and_test_has_a_sample_a_round(found):
    result, _ = found
    rows = [(e["recipe"], e["test"], e["depth"]) for e in result["results"]]
    tests = [("pp48", 0), ("tg4", 0), ("pp48", 32), ("tg4", 32)]
    assert rows == [(name, *test) for name in ("dense", "moe") for test in tests]
    for entry in result["results"]:
        samples = entry["samples"]
        assert len(samples) == 3
        assert min(samples) > 0
        assert entry["median"] == np.median(samples)
        assert [entry["low"], entry["high"]] == np.quantile(samples, [0.25, 0.75]).tolist()
    assert result["settings"] == {
        **{"prompt": 48, "generation": 4, "depths": [0, 32], "repeats": 3},
        **{"threads": 2, "gpus": 0},
    }
    assert result["machine"]["cpu"]
    assert result["machine"]["memory_bytes"] > 1 << 30
    assert result["provenance"]["computed_by"] == llama.computed_by()


def test_rounds_that_are_done_are_kept(timed, found, tmp_path):
    result, kept = found
    partial = files.read_json(kept)
    first = partial["rounds"][:2]
    files.write_json(tmp_path / "k.json", partial | {"rounds": first})
    again = rounds.speeds(timed, SETTINGS, tmp_path / "k.json", llama.Way(threads=2))
    for before, now in zip(result["results"], again["results"], strict=True):
        assert before["samples"][:2] == now["samples"][:2]
        assert len(now["samples"]) == 3


def result_of(found, **changed):
    """A result with other keys of its first entry."""
    result = copy.deepcopy(found[0])
    for key, value in changed.items():
        place = result["load"] if key == "load" else result["results"][0]
        place |= value if key == "load" else {key: value}
    return result


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"test": "pp0"}, "test: 'pp0' does not match"),
        ({"median": 0}, "median: 0 is less than or equal to the minimum of 0"),
        ({"low": 1e9}, "pp48 at 0: the figures are not those of its samples"),
        ({"samples": []}, "samples: "),
        ({"samples": [1.0, float("inf"), 2.0]}, "inf is not of type 'number'"),
        ({"depth": -1}, "depth: -1 is less"),
        ({"load": {"median": 9.0}}, "load: the figures are not those of its samples"),
        ({"load": {"samples": [-1.0]}}, "samples: 0: -1.0 is less"),
    ],
)
def test_speeds_that_cannot_be_are_a_sentence(found, tmp_path, changed, said):
    path = tmp_path / "s.json"
    files.write_json(path, found[0])
    sums = found[0]["provenance"]["models"]
    assert figures.read(path, sums) == found[0]
    with pytest.raises(QuernError, match=r"s\.json timed another file of moe"):
        figures.read(path, sums | {"moe": "0" * 64})
    files.write_json(path, result_of(found, **changed))
    with pytest.raises(QuernError, match=rf"s\.json holds what cannot be .*{said}"):
        figures.read(path)


def test_a_busy_machine_is_said_and_its_speeds_do_not_count(timed, tmp_path, caplog):
    """Programs that keep all cores busy, while nothing else is asked of this process."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(6)]
    try:
        settings = rounds.Timing(prompt=256, generation=16, repeats=2)
        busy = rounds.speeds(timed, settings, tmp_path / "k.json", llama.Way(threads=2))
    finally:
        for other in others:
            other.kill()
            other.wait()
    cores = busy["machine"]["cores"]
    assert figures.was_busy(busy) and 0.5 < busy["load"]["median"] <= cores
    assert "these speeds decide nothing" in caplog.text


def test_its_own_threads_are_no_load():
    """What this process does itself is not counted, on however many threads."""
    matrix, others = np.ones((1500, 1500), np.float32), machine.Others()
    before, end = time.process_time(), time.monotonic() + 1
    while time.monotonic() < end:
        matrix @ matrix
    own, cores = time.process_time() - before, machine._busy_seconds()
    assert own > 0.5 and cores > 0
    idle = others.cores()
    assert 0 <= idle < len(os.sched_getaffinity(0)) - 0.5 * own


@pytest.mark.parametrize("change", ["settings", "models"])
def test_rounds_of_something_else_are_not(timed, found, tmp_path, change):
    _, kept = found
    (tmp_path / "k.json").write_bytes(kept.read_bytes())
    some = timed[:1] if change == "models" else timed
    settings = SETTINGS if change == "models" else rounds.Timing(32, 2, (0,), 2)
    again = rounds.speeds(some, settings, tmp_path / "k.json", llama.Way(threads=2))
    assert {len(e["samples"]) for e in again["results"]} == {settings.repeats}


def test_a_clock_is_what_it_says(timed):
    """The time of a call, but for what the call does besides, is what it gives."""
    with (
        llama.Model(timed[0].model, llama.Way(threads=2)) as model,
        llama.Bench(model, 700) as bench,
    ):
        bench.fill(0)
        bench.prompt(600)
        for call, n in ((bench.prompt, 600), (bench.generate, 60)):
            bench.fill(64)
            begin = time.perf_counter()
            seconds = call(n)
            whole = time.perf_counter() - begin
            assert 0.5 * whole < seconds <= whole


def speed(made, output, *more, names=("dense",)):
    models = [
        {"name": n, "model": str(made / f"{n}.gguf"), "info": str(made / f"{n}.json")}
        for n in names
    ]
    return command(
        "speed",
        *("--models", json.dumps(models), "--prompt", 32, "--generation", 2, "--repeats", 2),
        *("--threads", 2, "--output", output / "speed.json", *more),
    )


def test_the_command(made, tmp_path):
    assert speed(made, tmp_path).returncode == 0
    assert [e["test"] for e in files.read_json(tmp_path / "speed.json")["results"]] == [
        "pp32",
        "tg2",
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["speed.json"]


def test_a_context_beyond_the_models(made, tmp_path):
    fails_with(speed(made, tmp_path, "--depths", 4096), "contexts of 2048", "needs 4128")
    assert not any(tmp_path.iterdir())


def test_models_that_failed_are_left_out(made, tmp_path):
    files.write_failure(tmp_path / "none.json", "no imatrix")
    models = [{"name": "x", "model": "x.gguf", "info": str(tmp_path / "none.json")}]
    options = ("--models", json.dumps(models), "--output", tmp_path / "speed.json")
    fails_with(command("speed", *options), "no model to time", "no imatrix")
