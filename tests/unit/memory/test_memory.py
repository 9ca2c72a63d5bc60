"""What a context keeps, against what llama.cpp itself reserves, for several kinds of memory."""

import json

import gguf
import numpy as np
import pytest

from conftest import DEMO, command, fails_with
from models import write_model
from quern import QuernError, files, gguf_files, gguf_header, llama
from quern.memory.cache import Layer, cache_bytes, layers_of
from quern.memory.footprint import footprint

EMBEDDING, VOCABULARY, FF = 128, 64, 256
ATTENTION = {"attn_norm": [EMBEDDING], "attn_output": [EMBEDDING, EMBEDDING]}
FEED_FORWARD = {
    "ffn_norm": [EMBEDDING],
    "ffn_gate": [EMBEDDING, FF],
    "ffn_up": [EMBEDDING, FF],
    "ffn_down": [FF, EMBEDDING],
}
MAMBA = {
    "attn_norm": [EMBEDDING],
    "ssm_in": [EMBEDDING, 4 * EMBEDDING],
    "ssm_conv1d": [4, 2 * EMBEDDING],
    "ssm_x": [2 * EMBEDDING, 8 + 2 * 16],
    "ssm_dt": [8, 2 * EMBEDDING],
    "ssm_out": [2 * EMBEDDING, EMBEDDING],
}
MAMBA_PLAIN = {
    "ssm_conv1d.bias": [2 * EMBEDDING],
    "ssm_dt.bias": [2 * EMBEDDING],
    "ssm_a": [16, 2 * EMBEDDING],
    "ssm_d": [2 * EMBEDDING],
}
SSM = {
    "ssm.conv_kernel": 4,
    "ssm.inner_size": 2 * EMBEDDING,
    "ssm.state_size": 16,
    "ssm.time_step_rank": 8,
}
SHORT = {
    "attn_norm": [EMBEDDING],
    "shortconv.conv": [3, EMBEDDING],
    "shortconv.in_proj": [EMBEDDING, 3 * EMBEDDING],
    "shortconv.out_proj": [EMBEDDING, EMBEDDING],
}


def attention(groups, head=32, heads=4):
    """The tensors of a layer with so many groups of keys and values."""
    return ATTENTION | {
        "attn_q": [EMBEDDING, heads * head],
        "attn_k": [EMBEDDING, groups * head],
        "attn_v": [EMBEDDING, groups * head],
        "attn_output": [heads * head, EMBEDDING],
    }


def skeleton(path, architecture, layers, settings, norm="output_norm"):
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
    shapes = {"token_embd": [EMBEDDING, VOCABULARY], norm: [EMBEDDING]}
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


def windowed(path):
    norms = {
        "post_attention_norm": [EMBEDDING],
        "post_ffw_norm": [EMBEDDING],
        "attn_q_norm": [64],
        "attn_k_norm": [64],
    }
    settings = {"attention.head_count_kv": 1, "attention.sliding_window": 300}
    settings |= {"attention.key_length": 64, "attention.value_length": 64}
    return skeleton(path, "gemma3", [attention(1, 64) | FEED_FORWARD | norms] * 7, settings)


def compressed(path):
    layer = {
        "attn_norm": [EMBEDDING],
        "attn_q_a_norm": [32],
        "attn_kv_a_norm": [64],
        "attn_q_a": [EMBEDDING, 32],
        "attn_q_b": [32, 4 * 48],
        "attn_kv_a_mqa": [EMBEDDING, 64 + 32],
        "attn_k_b": [16, 64, 4],
        "attn_v_b": [64, 32, 4],
        "attn_output": [4 * 32, EMBEDDING],
    }
    settings = {
        "attention.head_count_kv": 1,
        "attention.q_lora_rank": 32,
        "attention.kv_lora_rank": 64,
        "attention.key_length": 96,
        "attention.value_length": 64,
        "attention.key_length_mla": 48,
        "attention.value_length_mla": 32,
        "rope.dimension_count": 32,
        "leading_dense_block_count": 2,
        "expert_feed_forward_length": 64,
        "expert_shared_count": 1,
    }
    return skeleton(path, "deepseek2", [layer | FEED_FORWARD] * 2, settings)


def recurrent(path):
    settings = SSM | {"attention.head_count": 0}
    return skeleton(path, "mamba", [MAMBA | MAMBA_PLAIN] * 2, settings)


def hybrid(path):
    norms = {"ssm_dt_norm": [8], "ssm_b_norm": [16], "ssm_c_norm": [16]}
    layers = [MAMBA | MAMBA_PLAIN | norms | FEED_FORWARD, attention(2) | FEED_FORWARD]
    return skeleton(path, "jamba", layers, SSM | {"attention.head_count_kv": [0, 2]})


def convolved(path, **settings):
    norms = {"attn_q_norm": [32], "attn_k_norm": [32]}
    layers = [SHORT | FEED_FORWARD, attention(2) | norms | FEED_FORWARD]
    settings = {"attention.head_count_kv": [0, 2], "shortconv.l_cache": 3} | settings
    return skeleton(path, "lfm2", layers, settings, norm="token_embd_norm")


def shifting(path):
    """Every other layer sees 300 tokens back, as Gemma 2 does it."""
    metadata = {"gemma2.attention.sliding_window": 300}
    return write_model(path, architecture="gemma2", tied=True, metadata=metadata)


def demo(path):
    return DEMO


@pytest.mark.parametrize(
    "write", [demo, grouped, windowed, shifting, compressed, recurrent, hybrid, convolved]
)
def test_the_cache_is_what_llama_cpp_reserves(tmp_path, write):
    path = write(tmp_path / "model.gguf")
    layers = layers_of(path)
    for kind in ("f16", "q8_0", "q4_0"):
        with llama.Model(path, load="hollow", kv_type=kind) as model:
            for n_ctx in (100, 512, 2000):
                found = llama.reserved(model, n_ctx)
                room = found.caches * llama.LOGGED_BYTES / 2 + 1
                assert abs(cache_bytes(layers, n_ctx, kind) - found.cache) <= room
                assert found.compute > 0


def test_bytes_by_hand():
    """SmolLM2-135M: 30 layers, 3 groups of 64. Gemma 3 270M: 18 layers, one group of 256."""
    smollm2 = [Layer(192, 192)] * 30
    assert cache_bytes(smollm2, 8192, "f16") == 30 * 8192 * 2 * 192 * 2
    assert cache_bytes(smollm2, 8192, "q8_0") == 30 * 8192 * 2 * 192 // 32 * 34
    gemma = [Layer(256, 256, 0 if i % 6 == 5 else 512) for i in range(18)]
    assert cache_bytes(gemma, 32768, "f16") == (3 * 32768 + 15 * 1024) * 2 * 256 * 2
    assert cache_bytes(gemma, 300, "f16") == 18 * 512 * 2 * 256 * 2


def test_where_llama_cpp_does_otherwise_it_counts(tmp_path, caplog):
    """Metadata that no rule here knows: llama.cpp gives each layer of LFM2 a window then."""
    path = convolved(tmp_path / "model.gguf", **{"attention.sliding_window": 256})
    found = footprint(path, gguf_files.model_info(path), contexts=[4096], kv_types=["f16"])
    entry = found["contexts"][0]
    assert entry["kv_source"] == "llama.cpp"
    assert "which counts" in caplog.text
    with llama.Model(path, load="hollow") as model:
        assert entry["kv_bytes"] == llama.reserved(model, 4096).cache
    assert entry["kv_bytes"] < cache_bytes(layers_of(path), 4096, "f16")


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
        assert entry["total_bytes"] == info.tensor_bytes + parts
    before = (tmp_path / "m.json").read_bytes()
    memory(described, tmp_path, "--kv", "f16", "q8_0")
    assert (tmp_path / "m.json").read_bytes() == before


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
    with pytest.raises(QuernError, match=r"heads of 40 numbers.* 32 in a block of q8_0"):
        footprint(path, info, kv_types=["q8_0"])
    with (
        llama.Model(path, kv_type="q8_0") as model,
        pytest.raises(QuernError, match=r"K/V cache of q8_0.*does not divide"),
    ):
        next(model.logits(np.zeros((1, 32), np.int32), 16, 31))
    with pytest.raises(QuernError, match="no tensor type Q9_9"):
        llama.Model(path, kv_type="q9_9")


def test_settings_of_a_header_are_those_of_the_gguf_package(tmp_path):
    path = convolved(tmp_path / "m.gguf")
    reader = gguf_files.open_gguf(path)
    found = gguf_header.settings(path)
    for key in ("general.architecture", "lfm2.block_count", "lfm2.attention.head_count_kv"):
        assert found[key] == gguf_files.field(reader, key)
    epsilon = found["lfm2.attention.layer_norm_rms_epsilon"]
    assert json.dumps(epsilon) == json.dumps(float(np.float32(1e-5)))
    for name, words in (("text.txt", "not a GGUF file"), ("none.gguf", "cannot be read")):
        (tmp_path / "text.txt").write_text("words")
        with pytest.raises(QuernError, match=words):
            layers_of(tmp_path / name)
