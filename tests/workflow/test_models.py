"""Models from a hub, in shards, and from safetensors, up to their comparison."""

import os

import pandas as pd
import pytest

from conftest import HOUSE
from hub import TOKEN, serving
from quern.release import parts
from safetensors_models import write_folder

from .conftest import CONFIG
from .test_faults import commands_of

ONE = CONFIG | {"quantize": [{"types": ["Q8_0"], "imatrix": ["none"]}]}
COMPARED = {"model": 1, "tokens": 1, "baseline": 1, "quantize": 1, "compare": 1, "summary": 1}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with serving(monkeypatch, tmp_path / "home") as found:
        yield found


def figures(house, model):
    table = pd.read_csv(house.folder / f"results/{model}/summary/topics.csv", index_col="recipe")
    return table.loc["Q8_0"]


def test_a_model_in_shards_from_a_hub_to_its_comparison(house, hub, monkeypatch):
    """Its figures are those of the same model in one file of the user's."""
    folder = house.folder
    whole = folder / "input/tiny.gguf"
    first, *others = parts.release(whole, folder / "far.gguf", whole.stat().st_size // 2)
    assert others
    hub.add("own/er", {f"sub/{path.name}": path.read_bytes() for path in (first, *others)})
    hub.gated.add("own/er")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    house.configure(ONE | {"models": {"far": f"hf://own/er@main/sub/{first.name}"}})
    assert house.would_run() == COMPARED | {"fetch_model": 1, "place_model": 1}
    assert hub.asked == []  # nobody is asked before a job runs
    assert house.run("models") == {"fetch_model": 1, "place_model": 1}
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_TOKEN")
    assert house.run() == COMPARED
    assert house.would_run() == {}
    near, far = figures(house, "tiny"), figures(house, "far")
    assert far.kld_mean == near.kld_mean > 0
    assert far.bytes == near.bytes and far.windows == near.windows
    placed = folder / f"results/far/{first.name}"
    assert placed.resolve() == folder / f"results/hub/own/er/main/sub/{first.name}"
    for path in folder.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path
    later = placed.stat().st_mtime + 10
    os.utime(placed.resolve(), (later, later))
    assert house.would_run() == {}
    facts = f"results/hub/own/er/main/sub/{first.name}.fetched.json"
    (folder / facts).unlink()
    assert house.run(facts) == {"fetch_model": 1}  # without a network


def test_a_mix_waits_for_the_size_of_its_model(house, hub):
    hub.add("own/er", {"x.gguf": (house.folder / "input/tiny.gguf").read_bytes()})
    mix = [{"mix": {"size": "6 bpw"}}]
    house.configure(ONE | {"models": {"far": "hf://own/er/x.gguf"}, "quantize": mix})
    target = "results/far/x.gguf"
    assert "damage" not in house.would_run("mixes")
    assert house.run(target) == {"fetch_model": 1, "place_model": 1}
    assert house.would_run("mixes")["damage"] > 0


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("hf://own", "models.far: hf://own is no model on the hub; write hf://owner/name/file"),
        ("input", "models.far: input has no config.json with *.safetensors beside it"),
        ("input/gone.gguf", "models.far: input/gone.gguf does not exist"),
    ],
)
def test_what_is_no_model_is_said_before_anything_runs(house, model, words):
    house.configure(ONE | {"models": {"far": model}})
    assert words in house.snakemake("-n").stdout


def test_a_folder_by_its_content(house):
    """What the converter does not read makes nothing stale."""
    folder = house.folder / "input/Tiny-1M"
    write_folder(folder)
    house.configure(ONE | {"models": {"own": "input/Tiny-1M"}})
    assert house.would_run() == COMPARED | {"converter": 1, "convert": 1}
    (line,) = [x for x in commands_of(house.snakemake("-n", "-p")) if "convert.py" in x]
    assert "--folder input/Tiny-1M" in line


@pytest.mark.skipif(
    not (HOUSE / ".converter/installed").exists(),
    reason="llama.cpp's converter is missing: envs/converter.sh .converter",
)
def test_safetensors_from_a_hub_and_from_a_folder(house, hub):
    folder = house.folder / "input/Tiny-1M"
    write_folder(folder)
    hub.add("own/Tiny-1M", {path.name: path.read_bytes() for path in folder.iterdir()})
    (house.folder / ".converter").symlink_to(HOUSE / ".converter")
    house.configure(ONE | {"models": {"far": "hf://own/Tiny-1M", "own": "input/Tiny-1M"}})
    twice = {name: 2 * jobs for name, jobs in COMPARED.items()}
    assert house.run() == twice | {"fetch_model": 1, "convert": 2}
    assert house.would_run() == {}
    results = house.folder / "results"
    assert (results / "far/model.gguf").read_bytes() == (results / "own/model.gguf").read_bytes()
    assert figures(house, "far").kld_mean == figures(house, "own").kld_mean > 0
    (folder / "pytorch_model.bin").write_bytes(b"")
    (folder / "config.json").touch()
    assert house.would_run() == {}
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    assert house.would_run() == COMPARED | {"convert": 1}
