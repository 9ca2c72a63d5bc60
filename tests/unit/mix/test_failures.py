"""What is kept as a mix's result: what its recipe asks for, and nothing that the machine did."""

import shutil
import subprocess
import sys

import pytest

from conftest import HOUSE, command, fails_with
from quern import files
from quern.ggml_types import CHOSEN
from quern.mix import errors

from .conftest import N_CTX

# A disk that is too small for the logits of one window; what is on it in the end is shown.
FULL = 'mount -t tmpfs -o size=16k none "$0" && { "$@"; code=$?; ls -A "$0"; exit $code; }'


@pytest.fixture
def options(inputs, tokens, measure, tmp_path):
    """Options of a mix that can be made, by name."""
    files.write_json(tmp_path / "m.json", inputs.info.as_dict())
    table = {tensor.name: dict.fromkeys(CHOSEN, 1.0) for tensor in inputs.free()}
    content = {"errors": table, "rounding": "ggml"} | errors.origin(inputs)
    files.write_json(tmp_path / "e.json", content)
    shutil.copy(inputs.model.parent / "i.gguf", tmp_path)
    stores = [measure(tmp_path / f"{turn}.h5", turn=turn) for turn in (0, 1)]
    (tmp_path / "out").mkdir()
    return {
        "model": inputs.model,
        "info": tmp_path / "m.json",
        "imatrix": tmp_path / "i.gguf",
        "damage": stores,
        "errors": tmp_path / "e.json",
        "tokens": tokens.path,
        "n-ctx": N_CTX,
        "proof-windows": 2,
        "size": "as Q4_K_M",
        "threads": 1,
        "output": tmp_path / "out/mix.json",
        "type-file": tmp_path / "out/mix.txt",
    }


def words(options):
    """A command line that keeps a failure as the result."""
    pairs = [[f"--{k}", *(v if isinstance(v, list) else [v])] for k, v in options.items()]
    return ["--keep-failure", *(str(word) for pair in pairs for word in pair)]


def test_a_full_disk_is_no_result(options, tmp_path):
    line = ["unshare", "-rm", "sh", "-c", FULL, tmp_path / "out"]
    if not shutil.which("unshare") or subprocess.run([*line, "true"]).returncode:
        pytest.skip("needs a user namespace")
    script = [sys.executable, HOUSE / "scripts/mix.py", *words(options)]
    result = subprocess.run([*line, *script], capture_output=True, text=True)
    fails_with(result, f"No space left on device {tmp_path / 'out'}; make room")
    assert result.stdout == ""


@pytest.mark.parametrize("name", ["imatrix", "errors", "tokens"])
def test_damaged_inputs_are_no_result(options, tmp_path, name):
    content = bytearray(options[name].read_bytes())
    content[len(content) // 2] ^= 1
    options[name] = tmp_path / f"damaged{options[name].suffix}"
    options[name].write_bytes(content)
    fails_with(command("mix", *words(options)), options[name].name, "delete it")
    assert list(options["output"].parent.iterdir()) == []


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"size": "10KB"}, "the smallest mix has"),
        ({"size": "as IQ1_S"}, "llama.cpp makes no IQ1_S of this model"),
        ({"fixed": "no_such=Q4_K"}, "no_such matches no tensor"),
    ],
)
def test_what_a_recipe_asks_for_is_its_result(options, recipe, said):
    result = command("mix", *words(options | recipe))
    assert result.returncode == 0, result.stderr
    assert said in files.failure(options["output"])
    assert options["type-file"].read_bytes() == b""
