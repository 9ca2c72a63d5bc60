"""Every stage that decodes windows of a text refuses and says the same of them."""

import dataclasses

import pytest

from conftest import command, fails_with
from models import write_model
from quern import files, gguf_files
from quern.llama import Model
from quern.tokens import windows

N_CTX, TRAINED = 64, 32
STAGES = {
    "baseline": ("--windows", 2, "--facts", "facts.json"),
    "perplexity": ("--windows", 2, "--summary", "summary.json"),
    "imatrix_shard": ("--to", 1),
    "moments": ("--windows", 2),
    "damage": ("--part", "1/9"),
    "tune": ("--windows", 2, "--repeats", 2, "--trials", "trials.csv"),
}


@pytest.fixture(scope="module")
def short(made, tmp_path_factory):
    """A model that was trained on short windows, what is known of it, and tokens of a text."""
    folder = tmp_path_factory.mktemp("short")
    path = write_model(folder / "m.gguf", n_embd=64, n_ff=64, n_layer=1, context_length=TRAINED)
    info = gguf_files.model_info(path)
    with Model(path, load="vocab") as model:
        windows.tokenize_text(model, info.tokenizer_sha256, made / "text.txt", folder / "t.h5")
    return folder, info


@pytest.fixture(params=STAGES)
def run(request, short, tmp_path, monkeypatch):
    """A function that runs a stage with a model of which this is known; its result and its log."""
    monkeypatch.chdir(tmp_path)

    def run(**known):
        folder, info = short
        files.write_json("info.json", dataclasses.replace(info, **known).as_dict())
        result = command(
            *(request.param, "--model", folder / "m.gguf", "--info", "info.json"),
            *("--tokens", folder / "t.h5", "--n-ctx", N_CTX, "--threads", 1),
            *("--output", "output", "--log", "log", *STAGES[request.param]),
        )
        return result, (tmp_path / "log").read_text()

    return run


def test_windows_beyond_the_training_are_computed_and_said(run):
    result, log = run()
    assert result.returncode == 0, result.stderr
    said = f"Windows of {N_CTX} tokens are longer than the {TRAINED} that the model was trained for"
    assert log.count(said) == 1


def test_positions_that_were_never_learned_are_refused(run):
    result, _ = run(learned_positions=True)
    fails_with(result, f"has {TRAINED} positions, too few for windows of {N_CTX} tokens; set n_ctx")


def test_tokens_of_another_model_are_refused(run):
    result, _ = run(tokenizer_sha256="0" * 64)
    fails_with(result, "t.h5 was made with another tokenizer than the model's; delete it and run")
