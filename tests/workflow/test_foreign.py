"""Foreign models in a sweep that has run: only what is new runs, and bad ones end in a sentence."""

import os
import shutil

import pandas as pd
import pytest

from models import write_model
from quern.gguf_files import tensors_of
from quern.release import parts

from .conftest import CONFIG


def test_a_foreign_model_beside_a_finished_sweep(house):
    folder = house.folder
    theirs = folder / "input/theirs.gguf"
    shutil.copy(folder / "results/tiny/quantize/Q2_K.gguf", theirs)
    house.configure(CONFIG | {"candidates": {"theirs": "input/theirs.gguf"}})
    assert house.run() == {"foreign": 1, "compare": 1, "summary": 1}
    assert not (folder / "results/tiny/quantize/theirs.gguf").exists()
    table = pd.read_csv(folder / "results/tiny/summary/topics.csv", index_col="recipe")
    assert table.foreign.to_dict() == {name: name == "theirs" for name in table.index}
    assert table.kld_mean["theirs"] == table.kld_mean["Q2_K"]
    text = (folder / "results/tiny/summary/topics.md").read_text()
    assert "## Mine against theirs" in text
    later = theirs.stat().st_mtime + 10
    os.utime(theirs, (later, later))
    assert house.would_run() == {}
    shutil.copy(folder / "results/tiny/quantize/Q8_0.gguf", theirs)
    assert house.would_run() == {"foreign": 1, "compare": 1, "summary": 1}
    write_model(theirs, n_layer=3)
    result = house.snakemake()
    assert "candidates.theirs: input/theirs.gguf is not a quantization of" in result.stderr


def test_a_foreign_model_in_parts_and_a_recipe_of_its_types(house):
    """The recipe repeats the file, and the comparison of either gives the same figures."""
    folder = house.folder
    made = folder / "results/tiny/quantize/Q2_K.gguf"
    first, *others = parts.release(made, folder / "input/theirs.gguf", made.stat().st_size // 2)
    assert others
    theirs = f"input/{first.name}"
    like = {"like": theirs, "imatrix": ["none"]}
    house.configure(
        CONFIG | {"candidates": {"theirs": theirs}, "quantize": [*CONFIG["quantize"], like]}
    )
    assert house.run() == {"foreign": 1, "quantize": 1, "compare": 2, "summary": 1}
    table = pd.read_csv(folder / "results/tiny/summary/topics.csv", index_col="recipe")
    (repeated,) = [name for name in table.index if name.startswith("like-")]
    assert table.kld_mean[repeated] == table.kld_mean["theirs"] == table.kld_mean["Q2_K"]
    tensors = tensors_of(folder / f"results/tiny/quantize/{repeated}.gguf")
    assert {name: t.data.tobytes() for name, t in tensors.items()} == {
        name: t.data.tobytes() for name, t in tensors_of(made).items()
    }
    others[0].unlink()
    assert f"{others[0].name} does not exist" in house.snakemake("-n").stdout


@pytest.mark.parametrize(
    ("candidates", "words"),
    [
        ({"Q2_K": "input/tiny.gguf"}, "candidates.Q2_K: a recipe of quantize has this name"),
        ({"x": "input/gone.gguf"}, "candidates.x: input/gone.gguf does not exist"),
        (
            {"x": {"path": "input/tiny.gguf", "model": "tinny"}},
            "candidates.x.model: there is no 'tinny'; did you mean tiny?",
        ),
    ],
)
def test_what_cannot_be_is_said_before_anything_runs(house, candidates, words):
    house.configure(CONFIG | {"candidates": candidates})
    assert words in house.snakemake("-n").stdout
