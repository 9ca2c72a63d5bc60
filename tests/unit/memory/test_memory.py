"""What a context keeps, against what llama.cpp itself reserves, for several kinds of memory."""

import re

import gguf
import numpy as np
import pytest

from conftest import DEMO, command, fails_with
from models import write_model
from quern import QuernError, files, gguf_files, gguf_header, llama
from quern.memory import stored
from quern.memory.footprint import cache_bytes, footprint

EMBEDDING, VOCABULARY, FF = 128, 64, 256
ATTENTION = {"attn_norm": [EMBEDDING], "attn_output": [EMBEDDING, EMBEDDING]}
FEED_FORWARD = {
    "ffn_norm": [EMBEDDING],
    "ffn_gate": [EMBEDDING, FF],
    "ffn_up": [EMBEDDING, FF],
    "ffn_down": [FF, EMBEDDING],
}


def attention(groups, head=32, heads=4):
    """The tensors of a layer with so many groups of keys and values."""
    return ATTENTION | {
        "attn_q": [EMBEDDING, heads * head],
        "attn_k": [EMBEDDING, groups * head],
        "attn_v": [EMBEDDING, groups * head],
        "attn_output": [heads * head, EMBEDDING],
    }


def skeleton(path, architecture, layers, settings):
    """A model of zeros with these tensors in each layer; most names end in `.weight`."""
    writer = gguf.GGUFWriter(path, architecture)
    usual = {
        "context_length": 8192,
        "embedding_length": EMBEDDING,
        "block_count": len(layers),
        "feed_forward_length": FF,
        "attention.head_count": 4,
        "vocab_size": VOCABULARY,
    }
    for key, value in (usual | settings).items():
        add = writer.add_array if isinstance(value, list) else writer.add_uint32
        add(f"{architecture}.{key}", value)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("no_vocab")
    shapes = {"token_embd": [EMBEDDING, VOCABULARY], "output_norm": [EMBEDDING]}
    for i, layer in enumerate(layers):
        shapes |= {f"blk.{i}.{name}": shape for name, shape in layer.items()}
    for name, shape in shapes.items():
        plain = name.endswith((".bias", "ssm_a", "ssm_d"))
        values = np.zeros(shape[::-1], np.float32)
        writer.add_tensor(name if plain else f"{name}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def grouped(path):
    layers = [attention(2) | FEED_FORWARD] * 3
    return skeleton(path, "llama", layers, {"attention.head_count_kv": 2})


def longer(path):
    """Keys and values longer than the width says."""
    settings = {"attention.key_length": 64, "attention.value_length": 64}
    return skeleton(path, "llama", [attention(4, 64) | FEED_FORWARD] * 2, settings)


def demo(path):
    return DEMO


@pytest.mark.parametrize("write", [demo, grouped, longer])
def test_the_cache_is_what_llama_cpp_reserves(tmp_path, write):
    path = write(tmp_path / "model.gguf")
    kinds, contexts = ("f16", "q8_0", "q4_0"), (100, 512, 2000)
    found = footprint(path, gguf_files.model_info(path), contexts=contexts, kv_types=kinds)
    assert len(found["contexts"]) == len(kinds) * len(contexts)
    for entry in found["contexts"]:
        assert entry["kv_source"] == "metadata" and entry["compute_bytes"] > 0
        with llama.Model(path, load="hollow", kv_type=entry["kv_type"]) as model:
            said = llama.reserved(model, entry["n_ctx"])
        room = said.caches * llama.LOGGED_BYTES / 2 + 1
        assert abs(entry["kv_bytes"] - said.cache) <= room


def test_bytes_by_hand(tmp_path):
    """Two layers of 4 heads, each 64 numbers for a key and as many for a value."""
    header = gguf_header.read(longer(tmp_path / "model.gguf"))
    assert cache_bytes(header, 8192, "f16") == 2 * 8192 * 2 * 256 * 2
    assert cache_bytes(header, 8192, "q8_0") == 2 * 8192 * 2 * 256 // 32 * 34
    assert cache_bytes(header, 300, "f16") == 2 * 512 * 2 * 256 * 2


def test_where_layers_keep_less_llama_cpp_counts(tmp_path):
    """Every other layer sees 300 tokens back, as Gemma 2 does it."""
    window = {"gemma2.attention.sliding_window": 300}
    path = tmp_path / "model.gguf"
    write_model(path, architecture="gemma2", tied=True, metadata=window)
    found = footprint(path, gguf_files.model_info(path), contexts=[2000], kv_types=["f16"])
    (entry,) = found["contexts"]
    with llama.Model(path, load="hollow") as model:
        assert entry["kv_bytes"] == llama.reserved(model, 2000).cache
    assert entry["kv_source"] == "llama.cpp"
    assert entry["kv_bytes"] < cache_bytes(gguf_header.read(path), 2000, "f16")


@pytest.mark.parametrize("kind", ["F16", "Q4_0", "Q4_K_M"])
def test_what_is_repacked_is_what_llama_cpp_copies(tmp_path, kind, caplog):
    """Its log of a model that it loads names each tensor; no CPU copies F16."""
    path = tmp_path / "q.gguf"
    llama.quantize(DEMO, path, llama.QuantizationParameters(kind), threads=2)
    with llama.Model(path, load="hollow") as model:
        repacked = model.repacked
    caplog.set_level("INFO", "quern.llama")
    caplog.clear()
    llama.Model(path).__exit__()
    copied = re.findall(r"repack: repack tensor (\S+) with", caplog.text)
    assert repacked == set(copied) and (repacked == set() or kind != "F16")
    found = footprint(path, gguf_files.model_info(path), contexts=[512], kv_types=["f16"])
    sizes = {name: t.n_bytes for name, t in gguf_files.tensors_of(path).items()}
    assert found["repacked_bytes"] == sum(sizes[name] for name in repacked)


def test_scratch_by_hand():
    """512 inputs as F16 or in blocks of Q8_0, and 64 bytes a thread; the largest product counts."""
    f16, q8_0 = 512 * 256 * 2 + 2 * 64, 512 * 768 // 32 * 34 + 2 * 64
    assert llama.scratch_bytes([("F16", 256, 512)], 2) == f16
    assert llama.scratch_bytes([("F16", 256, 512), ("Q8_0", 768, 512)], 2) == q8_0
    assert llama.scratch_bytes([], 2) == 0


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    """The demo's JSON."""
    path = tmp_path_factory.mktemp("described") / "demo.json"
    files.write_json(path, gguf_files.model_info(DEMO).as_dict())
    return path


def memory(info, output, *more):
    return command(
        "memory",
        *("--model", DEMO, "--info", info, "--name", "Q", "--output", output / "m.json", *more),
    )


def test_the_command(described, tmp_path):
    assert memory(described, tmp_path, "--kv", "f16", "q8_0").returncode == 0
    found = files.read_json(tmp_path / "m.json")
    info = gguf_files.ModelInfo.read(described)
    assert found["recipe"] == "Q"
    assert found["tensor_bytes"] == info.tensor_bytes
    assert found["provenance"]["sha256"] == info.sha256
    assert [(e["n_ctx"], e["kv_type"]) for e in found["contexts"]] == [
        (2048, "f16"),
        (2048, "q8_0"),
    ]
    for entry in found["contexts"]:
        assert entry["kv_source"] == "metadata"
        parts = entry["kv_bytes"] + entry["compute_bytes"]
        assert entry["total_bytes"] == info.tensor_bytes + found["repacked_bytes"] + parts
    before = (tmp_path / "m.json").read_bytes()
    memory(described, tmp_path, "--kv", "f16", "q8_0")
    assert (tmp_path / "m.json").read_bytes() == before
    assert stored.read(tmp_path / "m.json", info.sha256) == found
    with pytest.raises(QuernError, match="is of another file than was measured"):
        stored.read(tmp_path / "m.json", "0" * 64)


@pytest.mark.parametrize(
    ("own", "context", "said"),
    [
        ({"tensor_bytes": 0}, {}, "tensor_bytes: 0 is less than the minimum of 1"),
        ({"contexts": []}, {}, "contexts: "),
        ({}, {"n_ctx": 0}, "contexts: 0: n_ctx: 0 is less"),
        ({}, {"compute_bytes": -1}, "compute_bytes: -1 is less"),
        ({}, {"total_bytes": 90}, "total_bytes: 90 is not 130, the sum of its parts"),
        ({}, {"total_bytes": float("inf")}, "total_bytes: inf is not of type"),
        ({}, {"total_bytes": float("nan")}, "it holds NaN"),
    ],
)
def test_memory_that_cannot_be_is_a_sentence(tmp_path, own, context, said):
    sizes = {"kv_bytes": 20, "compute_bytes": 10, "total_bytes": 130}
    found = {"recipe": "Q", "tensor_bytes": 60, "repacked_bytes": 40}
    found["provenance"] = {"sha256": "a" * 64}
    found["contexts"] = [{"n_ctx": 64, "kv_type": "f16"} | sizes | context]
    files.write_json(tmp_path / "m.json", found | own)
    with pytest.raises(QuernError, match=f"m.json .*{said}.*delete it and run again"):
        stored.read(tmp_path / "m.json")


def test_a_context_beyond_the_models(described, tmp_path):
    result = memory(described, tmp_path, "--contexts", 4096)
    fails_with(result, "was trained for contexts of 2048 tokens", "report.contexts", "4096")
    assert not (tmp_path / "m.json").exists()


def test_a_recipe_that_failed(tmp_path):
    files.write_failure(tmp_path / "q.json", "it needs an imatrix")
    assert memory(tmp_path / "q.json", tmp_path).returncode == 0
    assert files.failure(tmp_path / "m.json") == "it needs an imatrix"


def test_heads_that_blocks_do_not_divide(tmp_path):
    path = write_model(tmp_path / "m.gguf", n_embd=160, n_head=4)
    info = gguf_files.model_info(path)
    with pytest.raises(QuernError, match=r"K/V cache of q8_0.*does not divide"):
        footprint(path, info, kv_types=["q8_0"])
    with (
        llama.Model(path, kv_type="q8_0") as model,
        pytest.raises(QuernError, match=r"K/V cache of q8_0.*does not divide"),
    ):
        next(model.logits(np.zeros((1, 32), np.int32), 16, 31))
    with pytest.raises(QuernError, match="no tensor type Q9_9"):
        llama.Model(path, kv_type="q9_9")
