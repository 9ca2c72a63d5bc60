"""A mix of types read from a file and carried out again, to the byte."""

import logging
import os
import shlex
import subprocess
import sys

import gguf
import pytest

from conftest import HOUSE, command
from models import write_model
from quern import QuernError, gguf_files, llama
from quern.quantize import quantization, type_files
from quern.quantize.recipes import Recipe


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """A model, what is known of it, its tensors, and somebody's mix of it."""
    folder = tmp_path_factory.mktemp("theirs")
    model = write_model(folder / "m.gguf")
    info = gguf_files.model_info(model)
    pairs = ((r"blk\.1\.ffn", "Q5_K"), ("attn_v", "Q8_0"))
    recipe = Recipe("Q4_K_M", tensor_types=pairs, output_type="Q6_K")
    quantization.quantize(model, info, recipe, folder / "q.gguf")
    return model, info, gguf_files.tensors_of(model), folder / "q.gguf"


def data_of(path):
    return {t.name: (t.tensor_type, t.data.tobytes()) for t in gguf.GGUFReader(path).tensors}


def test_a_foreign_mix_is_made_again(theirs, tmp_path):
    model, info, tensors, path = theirs
    base, types = type_files.read(path, tensors)
    assert base == "Q4_K_M" and types["output.weight"] == "Q6_K"
    quantization.quantize(model, info, Recipe(base), tmp_path / "q.gguf", types=types)
    assert data_of(tmp_path / "q.gguf") == data_of(path)


def test_the_written_patterns_make_the_same_tensors(theirs, tmp_path):
    """The file's patterns, read again, through llama.cpp's own call."""
    model, _, tensors, path = theirs
    text = tmp_path / "types.txt"
    result = command("tensor_types", "--model", path, "--output", text)
    assert result.returncode == 0, result.stderr
    words = shlex.split(result.stdout)
    assert words[:3] == ["llama-quantize", "--tensor-type-file", str(text)]
    assert words[-1] == "Q4_K_M"
    base, types = type_files.read(text, tensors)
    wanted = llama.QuantizationParameters(words[-1], tensor_types=types)
    llama.quantize(model, tmp_path / "q.gguf", wanted)
    assert data_of(tmp_path / "q.gguf") == data_of(path)
    assert base == "Q4_K_S"


def test_the_first_pattern_counts_and_the_last_may_be_a_rest(theirs, tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("attn_v=q8_0\nattn=q6_k\n.*=q4_k\n")
    types = type_files.read(path, theirs[2])[1]
    assert types["blk.0.attn_v.weight"] == "Q8_0" and types["blk.0.attn_q.weight"] == "Q6_K"
    assert types["token_embd.weight"] == "Q4_K"


def test_norms_and_tensors_of_other_models_may_be_named(theirs, tmp_path, caplog):
    """As in llama-quantize; what matches nothing is said."""
    path = tmp_path / "t.txt"
    path.write_text("attn_norm=f32\nffn_up_exps=q6_k\nssm=f32\nffn_up=q5_k\n.*=q4_k\n")
    with caplog.at_level(logging.WARNING, "quern.quantize"):
        types = type_files.read(path, theirs[2])[1]
    assert types["blk.0.ffn_up.weight"] == "Q5_K" and not any("norm" in name for name in types)
    assert "2 of 5 patterns match no tensor of the model, such as ffn_up_exps." in caplog.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("attn=q6_k", "says nothing of the type of .*; end it with"),
        ("attn=q6_q", "attn=q6_q is not of the form PATTERN=TYPE"),
        ("attn", "attn is not of the form PATTERN=TYPE"),
    ],
)
def test_words_that_make_no_sense(theirs, tmp_path, text, words):
    (tmp_path / "t.txt").write_text(text)
    with pytest.raises(QuernError, match=words):
        type_files.read(tmp_path / "t.txt", theirs[2])


def test_a_file_of_another_model(theirs, tmp_path):
    other = write_model(tmp_path / "o.gguf", n_embd=128)
    with pytest.raises(QuernError, match=r"of another model: the rows of .* have 128 weights"):
        type_files.read(other, theirs[2])


def test_a_type_that_the_rows_do_not_allow(theirs, tmp_path):
    model = write_model(tmp_path / "m.gguf", n_embd=64, n_ff=96)
    info = gguf_files.model_info(model)
    types = type_files.of_gguf(theirs[3])
    with pytest.raises(QuernError, match="cannot become Q"):
        quantization.quantize(model, info, Recipe("Q4_K_M"), tmp_path / "q.gguf", types=types)


def test_quantizing_loads_no_rounding():
    """A change of a rounding makes no quantized model stale, and loading one takes a second."""
    program = (
        "import sys; from quern.quantize import quantization, type_files;"
        "sys.exit('quern.rounding' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": str(HOUSE / "scripts")}
    assert subprocess.run([sys.executable, "-c", program], env=environment).returncode == 0
