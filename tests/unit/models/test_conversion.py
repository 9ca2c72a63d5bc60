"""Folders of safetensors: which files count, in which type they are, and what becomes of them."""

import ast
import subprocess
from pathlib import Path

import numpy as np
import pytest

from conftest import HOUSE, command, fails_with
from quern import QuernError, files
from quern.gguf_files import model_info, tensors_of
from quern.models import safetensors
from safetensors_models import write_folder, write_safetensors

PYTHON = HOUSE / ".converter/bin/python"
converted = pytest.mark.skipif(
    not PYTHON.exists(), reason="llama.cpp's converter is missing: envs/converter.sh .converter"
)


def convert(folder: Path, output: Path) -> subprocess.CompletedProcess:
    own = ["--folder", folder, "--output", output, "--facts", f"{output}.json"]
    return subprocess.run(
        [PYTHON, HOUSE / "scripts/convert.py", *own, "--log", output.with_suffix(".log")],
        capture_output=True,
        text=True,
    )


def test_files_that_count():
    names = ["model.safetensors", "config.json", "tokenizer.model", "README.md"]
    others = ["consolidated.safetensors", "pytorch_model.bin", ".json", "a/config.json", "x.gguf"]
    assert safetensors.files_of([*others, *names], "here") == sorted(names)
    for absent in ("config.json", "model.safetensors"):
        with pytest.raises(QuernError, match=r"here has no config\.json with \*\.safetensors"):
            safetensors.files_of({*names, *others} - {absent}, "here")


def test_types_by_weights(tmp_path):
    matrix, row = np.ones((4, 8), np.float32), np.ones(8, np.float32)
    write_safetensors(tmp_path / "a.safetensors", {"a": matrix, "c": row}, "F32")
    write_safetensors(tmp_path / "b.safetensors", {"x": matrix, "y": matrix}, "BF16")
    write_safetensors(tmp_path / "consolidated.safetensors", {"z": matrix}, "F16")
    assert list(safetensors.weights_by_type(tmp_path).items()) == [("BF16", 64), ("F32", 32)]
    whole = (tmp_path / "b.safetensors").read_bytes()
    for damaged in (b"", whole[:20], bytes(7) + b"\x80" + whole, b"<!doctype html>"):
        (tmp_path / "b.safetensors").write_bytes(damaged)
        with pytest.raises(QuernError, match=r"b\.safetensors is no safetensors, or cut short"):
            safetensors.weights_by_type(tmp_path)


def test_without_a_converter(tmp_path):
    write_folder(tmp_path / "tiny")
    own = ("--folder", tmp_path / "tiny", "--output", tmp_path / "x", "--facts", tmp_path / "y")
    fails_with(command("convert", *own), "has no converter; make one with envs/converter.sh")
    assert not (tmp_path / "x").exists()


@converted
@pytest.mark.parametrize("kind", ["BF16", "F16", "F32"])
def test_weights_stay_what_they_are(tmp_path, kind):
    tensors = write_folder(tmp_path / "Tiny-1M", kind)
    result = convert(tmp_path / "Tiny-1M", tmp_path / "x.gguf")
    assert result.returncode == 0, result.stderr
    info, found = model_info(tmp_path / "x.gguf"), tensors_of(tmp_path / "x.gguf")
    assert info.tensor_types[kind] == sum(values.ndim > 1 for values in tensors.values()) + (
        5 if kind == "F32" else 0
    )
    assert info.name == "Tiny 1M" and info.context_length == 2048
    pairs = {"model.embed_tokens": "token_embd", "lm_head": "output", "model.norm": "output_norm"}
    for i in range(2):
        own = {"self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output"}
        own |= {f"mlp.{name}_proj": f"ffn_{name}" for name in ("gate", "up", "down")}
        pairs |= {f"model.layers.{i}.{a}": f"blk.{i}.{b}" for a, b in own.items()}
    for theirs, ours in pairs.items():
        tensor, expected = found[f"{ours}.weight"], tensors[f"{theirs}.weight"]
        values = tensor.data
        if tensor.tensor_type.name == "BF16":
            values = (values.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        assert (values.astype(np.float32) == expected).all(), ours
    facts = files.read_json(tmp_path / "x.gguf.json")
    assert facts["type"] == kind.lower()
    assert facts["files"]["x.gguf"]["sha256"] == info.sha256
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "Tiny-1M").rename(tmp_path / "elsewhere/Tiny-1M")
    again = convert(tmp_path / "elsewhere/Tiny-1M", tmp_path / "y.gguf")
    assert again.returncode == 0, again.stderr
    assert files.sha256(tmp_path / "y.gguf") == info.sha256
    assert str(tmp_path).encode() not in (tmp_path / "y.gguf").read_bytes()


@converted
def test_what_the_converter_does_not_know(tmp_path):
    write_folder(tmp_path / "tiny")
    config = tmp_path / "tiny/config.json"
    config.write_text(config.read_text().replace("LlamaForCausalLM", "NobodyForCausalLM"))
    result = convert(tmp_path / "tiny", tmp_path / "x.gguf")
    fails_with(result, "tiny cannot be converted", "NobodyForCausalLM is not supported")
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".gguf"] == []
    config.write_text("{")
    fails_with(convert(tmp_path / "tiny", tmp_path / "x.gguf"), "tiny cannot be converted")


@converted
def test_all_that_the_converter_imports_is_there():
    """Tokenizers are imported where one is read, so a pin that does not fit shows late."""
    share = PYTHON.parents[1] / "share/llama.cpp"
    wanted = set()
    for path in (share / "conversion").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and not node.level:
                wanted |= {f"from {node.module} import {alias.name}" for alias in node.names}
            elif isinstance(node, ast.Import):
                wanted |= {f"import {alias.name}" for alias in node.names}
    ours = ("gguf", "conversion", "mistral_common")  # its own, and what it does without
    lines = sorted(line for line in wanted if not line.split()[1].startswith(ours))
    assert {"from sentencepiece import sentencepiece_model_pb2"} < set(lines)
    result = subprocess.run([PYTHON, "-c", "\n".join(lines)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
