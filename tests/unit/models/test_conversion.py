"""Folders of safetensors: which files count, in which type they are, and what becomes of them."""

import ast
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from conftest import HOUSE, command, fails_with
from models import write_model
from quern import QuernError, files, gguf_header
from quern.gguf_files import model_info, tensors_of
from quern.models import safetensors
from quern.models.compared import differences
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
    write_safetensors(tmp_path / "model-1.safetensors", {"a": matrix, "c": row}, "F32")
    write_safetensors(tmp_path / "model-2.safetensors", {"x": matrix, "y": matrix}, "BF16")
    write_safetensors(tmp_path / "consolidated.safetensors", {"z": matrix}, "F16")
    found = safetensors.weights_by_type(safetensors.tensors(tmp_path))
    assert list(found.items()) == [("BF16", 64), ("F32", 32)]
    whole = (tmp_path / "model-2.safetensors").read_bytes()
    for damaged in (b"", whole[:20], bytes(7) + b"\x80" + whole, b"<!doctype html>", whole[:-1]):
        (tmp_path / "model-2.safetensors").write_bytes(damaged)
        with pytest.raises(QuernError, match=r"model-2\.safetensors is no safetensors"):
            safetensors.tensors(tmp_path)


def test_folders_that_are_not_whole(tmp_path):
    write_folder(tmp_path / "tiny")
    first, second = sorted((tmp_path / "tiny").glob("*.safetensors"))
    first.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(QuernError, match=r"00001-of-.* is a pointer of git-lfs .* `git lfs pull`"):
        safetensors.files_in(tmp_path / "tiny")
    first.unlink()
    with pytest.raises(QuernError, match=r"tiny lacks model-00001-of-00002\.safetensors"):
        safetensors.files_in(tmp_path / "tiny")
    second.rename(tmp_path / "tiny/adapter_model.safetensors")
    with pytest.raises(QuernError, match="holds an adapter without the model"):
        safetensors.files_in(tmp_path / "tiny")


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
def test_what_differs_from_the_folder_is_right_or_said(tmp_path):
    """Types tensor by tensor, the template that transformers takes, ties, what lies beside."""
    folder = tmp_path / "Tiny-1M"
    tensors = write_folder(folder)
    one = folder / "model-00001-of-00002.safetensors"
    head = folder / "model-00002-of-00002.safetensors"
    embedding = tensors["model.embed_tokens.weight"] + np.float32(2.0**-20)  # not BF16
    write_safetensors(one, {"model.embed_tokens.weight": embedding}, "F32")
    write_safetensors(head, {n: v for n, v in tensors.items() if "embed" not in n}, "BF16")
    places = {name: head.name for name in tensors} | {"model.embed_tokens.weight": one.name}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "old"}))
    (folder / "chat_template.jinja").write_text("new {{ messages }}")
    write_safetensors(folder / "adapter_model.safetensors", {"a": embedding}, "F32")
    write_safetensors(folder / "model-old.safetensors", {"b": embedding}, "F32")
    result = convert(folder, tmp_path / "x.gguf")
    assert result.returncode == 0, result.stderr
    found, header = tensors_of(tmp_path / "x.gguf"), gguf_header.read(tmp_path / "x.gguf")
    assert (found["token_embd.weight"].data == embedding).all()
    assert found["blk.0.ffn_up.weight"].tensor_type.name == "BF16"
    assert "output.weight" not in found
    assert header.get("tokenizer.chat_template") == "new {{ messages }}"
    notes = files.read_json(tmp_path / "x.gguf.json")["notes"]
    said = ("an adapter lies in", "model-old.safetensors is not read", "ties the two")
    assert len(notes) == len(said)
    for note, words in zip(notes, said, strict=True):
        assert words in note and note in result.stderr


def test_what_a_conversion_loses_is_said(tmp_path):
    """As an older converter would: rounded weights, another template, an output of its own."""
    write_folder(tmp_path / "x", "F32")
    config = tmp_path / "x/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"tie_word_embeddings": True}))
    (tmp_path / "x/chat_template.jinja").write_text("new")
    (tmp_path / "x/added_tokens.json").write_text(json.dumps({"<extra>": 5}))
    model = write_model(tmp_path / "m.gguf", tied=False)
    found = differences(tmp_path / "x", safetensors.tensors(tmp_path / "x"), model)
    wanted = ["weights that are F32", "ties the output", "1 tokens", "chat template", "calls the"]
    assert len(found) == len(wanted)
    assert all(words in said for words, said in zip(wanted, found, strict=True))


@converted
def test_what_the_converter_does_not_know(tmp_path):
    write_folder(tmp_path / "tiny")
    config = tmp_path / "tiny/config.json"
    config.write_text(config.read_text().replace("LlamaForCausalLM", "NobodyForCausalLM"))
    result = convert(tmp_path / "tiny", tmp_path / "x.gguf")
    fails_with(result, "tiny cannot be converted", "NobodyForCausalLM' not supported")
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".gguf"] == []
    config.write_text("{")
    fails_with(convert(tmp_path / "tiny", tmp_path / "x.gguf"), "tiny/config.json is no JSON")


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
