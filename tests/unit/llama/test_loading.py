"""What llama.cpp says of a model when it loads it."""

import gguf
import numpy as np
import pytest

from models import byte_tokens, write_model
from quern import QuernError, llama
from quern.llama.loading import _kinds


def write_t5(path):
    """A model of one layer in its encoder and one in its decoder."""
    n, writer = 32, gguf.GGUFWriter(path, "t5")
    writer.add_context_length(64)
    writer.add_embedding_length(n)
    writer.add_block_count(1)
    writer.add_feed_forward_length(n)
    writer.add_head_count(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_layer_norm_eps(1e-6)
    writer.add_relative_attn_buckets_count(8)
    writer.add_decoder_start_token_id(0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(byte_tokens())
    writer.add_token_merges(["a b"])
    sizes = {"token_embd": (256, n), "output": (256, n)}
    for side in ("enc", "dec"):
        parts = [f"attn_{x}" for x in "qkvo"] + ["ffn_gate", "ffn_up", "ffn_down"]
        parts += [f"cross_attn_{x}" for x in "qkvo"] if side == "dec" else []
        sizes |= {f"{side}.blk.0.{part}": (n, n) for part in parts}
        norms = ["attn_norm", "ffn_norm"] + (["cross_attn_norm"] if side == "dec" else [])
        sizes |= {f"{side}.blk.0.{norm}": (n,) for norm in norms} | {f"{side}.output_norm": (n,)}
        sizes[f"{side}.blk.0.attn_rel_b"] = (8, 2)
    for name, shape in sizes.items():
        writer.add_tensor(f"{name}.weight", np.ones(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_pre_tokenizer_that_is_missing_is_a_warning(tmp_path, made):
    path = write_model(tmp_path / "nopre.gguf", n_embd=64, n_layer=1, pre_tokenizer="")
    assert llama.warnings(path) == [
        "missing pre-tokenizer type, using: 'default' GENERATION QUALITY WILL BE DEGRADED! "
        "CONSIDER REGENERATING THE MODEL"
    ]
    assert llama.warnings(made / "dense.gguf") == []


def test_warnings_that_differ_by_names_and_numbers_are_one():
    unused = "done: model has unused tensor blk.{}.a.weight (size = {} bytes) -- ignoring"
    token = "load: control-looking token: {} '{}' was not control-type; this is `a bug`"
    lines = [unused.format(0, 64), "load:    ", token.format("   212", "</s>")]
    lines += [token.format(3, "<x y>"), unused.format(1, 128), unused.format(2, 64), "load: ***"]
    assert _kinds(lines) == [
        "model has unused tensor blk.0.a.weight (size = 64 bytes) -- ignoring (and 2 more of this "
        "kind)",
        "control-looking token: 212 '</s>' was not control-type; this is 'a bug' (and 1 more of "
        "this kind)",
    ]


def test_models_that_predict_no_next_token_are_refused(tmp_path):
    """llama.cpp aborts when it decodes with the first."""
    with pytest.raises(QuernError, match=r"t5\.gguf cannot be measured: it has an encoder"):
        llama.warnings(write_t5(tmp_path / "t5.gguf"))
    path = write_model(tmp_path / "d.gguf", n_embd=64, n_layer=1, architecture="dream")
    with pytest.raises(QuernError, match=r"d\.gguf cannot be measured: it is a diffusion model"):
        llama.warnings(path)


def test_an_architecture_that_llama_cpp_does_not_know_is_named(tmp_path):
    path = write_model(tmp_path / "f.gguf", n_embd=64, n_layer=1, architecture="flux")
    with pytest.raises(QuernError, match=r"f\.gguf: .*unknown model architecture: 'flux'"):
        llama.warnings(path)
