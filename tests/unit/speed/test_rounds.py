"""Speeds in rounds: what is measured, what is kept, and the command."""

import json
import time

import numpy as np
import pytest

from conftest import command, fails_with
from quern import files, gguf_files, llama
from quern.speed import rounds

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
