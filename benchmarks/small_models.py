"""A small model of a real architecture, with random weights, by transformers and the converter.

In: its name. Out: GGUF, BF16 but for what is published otherwise. It runs in the converter's
environment, see `architectures.py`. llama.cpp's converter knows pre-tokenizers by what they make of
a text; here they are GPT-2's by decree.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import sentencepiece
import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file

HOUSE = Path(__file__).parent.parent
sys.path[:0] = [str(HOUSE / "scripts")]

from quern.models import conversion, converter

TEXT = HOUSE / "resources/demo/text/prose.txt"
VOCABULARY = 1000
# Names that architectures do not know are left alone by transformers.
SHARED = {
    "vocab_size": VOCABULARY,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "initializer_range": 0.08,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
    "tie_word_embeddings": False,
}
HEADS = {"head_dim": 64}
TIED = {"tie_word_embeddings": True}
LOCAL = {"sliding_window": 64}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 256}
LOCAL_EXPERTS = {"num_local_experts": 8, "num_experts_per_tok": 2}
ROUTED = {
    "num_hidden_layers": 3,
    "moe_intermediate_size": 256,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
LATENT = {  # attention over a compressed cache (MLA)
    "num_key_value_heads": 4,
    "kv_lora_rank": 64,
    "q_lora_rank": 128,
    "qk_nope_head_dim": 64,
    "qk_rope_head_dim": 32,
    "v_head_dim": 64,
}
MAMBA = {"mamba_d_head": 64, "mamba_d_state": 64, "mamba_n_groups": 1}
BPE, SENTENCES = "BPE", "SentencePiece"

# By name: transformers' type, the tokenizer, and settings of its own.
MODELS: dict[str, tuple[str, str, dict]] = {
    "apertus": ("apertus", BPE, {}),
    "bloom": ("bloom", BPE, TIED | {"n_layer": 2, "n_head": 4}),
    "cohere2": (
        "cohere2",
        BPE,
        TIED | LOCAL | {"num_hidden_layers": 4, "logit_scale": 0.25, "rotary_pct": 1.0},
    ),
    "deepseek2": (
        "deepseek_v2",
        BPE,
        ROUTED | LATENT | {"n_group": 1, "kv_lora_rank": 256, "routed_scaling_factor": 1.0},
    ),
    "deepseek3": (
        "deepseek_v3",
        BPE,
        ROUTED | LATENT | {"head_dim": 32, "routed_scaling_factor": 1.5},
    ),
    "dots1": ("dots1", BPE, HEADS | ROUTED),
    "ernie4.5-moe": (
        "ernie4_5_moe",
        SENTENCES,
        {
            "num_hidden_layers": 3,
            "moe_num_experts": 8,
            "moe_k": 2,
            "moe_intermediate_size": 256,
            "moe_num_shared_experts": 2,
            "moe_layer_start_index": 1,
            "moe_layer_end_index": 2,
            "moe_layer_interval": 1,
            "use_bias": False,
        },
    ),
    "exaone4": (
        "exaone4",
        BPE,
        HEADS | LOCAL | {"num_hidden_layers": 4, "sliding_window_pattern": 4},
    ),
    "falcon-h1": ("falcon_h1", BPE, HEADS | MAMBA | {"mamba_d_ssm": 256, "mamba_n_heads": 4}),
    "gemma2": (
        "gemma2",
        SENTENCES,
        HEADS | LOCAL | TIED | {"query_pre_attn_scalar": 64, "bos_token_id": 2},
    ),
    "gemma3": (
        "gemma3_text",
        SENTENCES,
        HEADS
        | LOCAL
        | TIED
        | {"num_hidden_layers": 6, "query_pre_attn_scalar": 64, "bos_token_id": 2},
    ),
    "gemma3n": (
        "gemma3n_text",
        SENTENCES,
        HEADS
        | LOCAL
        | TIED
        | {
            "num_hidden_layers": 10,
            "num_kv_shared_layers": 5,
            "hidden_size_per_layer_input": 32,
            "vocab_size_per_layer_input": VOCABULARY,
            "laurel_rank": 16,
            "activation_sparsity_pattern": None,
            "bos_token_id": 2,
        },
    ),
    "glm4": ("glm4", BPE, HEADS),
    "glm4.5": (
        "glm4_moe",
        BPE,
        HEADS | ROUTED | {"n_group": 1, "use_qk_norm": True, "attention_bias": True},
    ),
    "gpt-neox": ("gpt_neox", BPE, {}),
    "gpt-oss": (
        "gpt_oss",
        BPE,
        HEADS | LOCAL | LOCAL_EXPERTS | {"intermediate_size": 256},
    ),
    "gpt2": (
        "gpt2",
        BPE,
        TIED
        | {
            "n_embd": 256,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 1024,
            "n_ctx": 1024,
            "n_inner": 512,
        },
    ),
    "granite": (
        "granite",
        BPE,
        TIED
        | {
            "logits_scaling": 4.0,
            "embedding_multiplier": 6.0,
            "residual_multiplier": 0.5,
            "attention_multiplier": 0.1,
        },
    ),
    "granite-hybrid": (
        "granitemoehybrid",
        BPE,
        MAMBA
        | LOCAL_EXPERTS
        | {
            "num_hidden_layers": 4,
            "layer_types": ["mamba", "mamba", "attention", "mamba"],
            "intermediate_size": 256,
            "shared_intermediate_size": 256,
            "mamba_n_heads": 8,
            "mamba_expand": 2,
            "logits_scaling": 4.0,
            "position_embedding_type": "nope",
        },
    ),
    "granite-moe": (
        "granitemoe",
        BPE,
        LOCAL_EXPERTS | {"logits_scaling": 4.0, "intermediate_size": 256},
    ),
    "hunyuan-dense": ("hunyuan_v1_dense", BPE, HEADS),
    "jamba": (
        "jamba",
        SENTENCES,
        {
            "num_hidden_layers": 4,
            "attn_layer_period": 4,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "use_mamba_kernels": False,
            "mamba_d_state": 16,
            "mamba_expand": 2,
            "bos_token_id": 2,
        },
    ),
    "lfm2": (
        "lfm2",
        BPE,
        TIED
        | {
            "num_hidden_layers": 4,
            "block_auto_adjust_ff_dim": False,
            "layer_types": ["conv", "conv", "full_attention", "conv"],
            "norm_eps": 1e-5,
        },
    ),
    "llama": ("llama", SENTENCES, TIED),
    "llama4": (
        "llama4_text",
        BPE,
        HEADS
        | {
            "num_hidden_layers": 4,
            "intermediate_size": 256,
            "intermediate_size_mlp": 512,
            "num_local_experts": 4,
            "num_experts_per_tok": 1,
            "interleave_moe_layer_step": 2,
            "attention_chunk_size": 64,
        },
    ),
    "mamba": ("mamba", BPE, TIED | {"state_size": 16, "expand": 2}),
    "mamba2": (
        "mamba2",
        BPE,
        HEADS | {"vocab_size": 1008, "num_heads": 8, "state_size": 64, "n_groups": 1, "expand": 2},
    ),
    "mistral": ("mistral", SENTENCES, HEADS),
    "mixtral": ("mixtral", SENTENCES, {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "mpt": (
        "mpt",
        BPE,
        TIED | {"d_model": 256, "n_layers": 2, "n_heads": 4, "max_seq_len": 2048},
    ),
    "nemotron": ("nemotron", SENTENCES, HEADS),
    "olmo2": ("olmo2", BPE, {}),
    "olmoe": ("olmoe", BPE, EXPERTS | {"intermediate_size": 256}),
    "phi2": ("phi", BPE, {"num_key_value_heads": 4, "intermediate_size": 1024}),
    "phi3": ("phi3", SENTENCES, {"sliding_window": 128}),
    "qwen2": ("qwen2", BPE, TIED),
    "qwen3": ("qwen3", BPE, HEADS),
    "qwen3-moe": ("qwen3_moe", BPE, HEADS | EXPERTS),
    "qwen3-next": (
        "qwen3_next",
        BPE,
        HEADS
        | EXPERTS
        | {
            "num_hidden_layers": 4,
            "linear_key_head_dim": 32,
            "linear_value_head_dim": 32,
            "linear_num_key_heads": 4,
            "linear_num_value_heads": 8,
            "shared_expert_intermediate_size": 256,
            "partial_rotary_factor": 0.5,
        },
    ),
    "seed-oss": ("seed_oss", BPE, HEADS),
    "smollm3": (
        "smollm3",
        BPE,
        TIED | {"num_hidden_layers": 4, "no_rope_layers": [1, 1, 1, 0]},
    ),
    "stablelm": ("stablelm", BPE, {"partial_rotary_factor": 0.25}),
    "starcoder2": ("starcoder2", BPE, TIED | {"use_bias": True}),
}
CLASSES = {"gemma3": "Gemma3ForCausalLM", "gemma3n": "Gemma3nForCausalLM"}
CLASSES |= {"llama4": "Llama4ForCausalLM", "mpt": "MPTForCausalLM"}
SPECIAL = "<|endoftext|> <|user|> <|observation|> [gMASK] <sop> <|assistant|> <|system|>"


def as_published(folder: Path) -> None:
    """Turn the experts of gpt-oss into the blocks and scales (MXFP4) that it is published with."""
    path, tensors = folder / "model.safetensors", {}
    for name, value in load_file(path).items():
        if not name.endswith(("experts.down_proj", "experts.gate_up_proj")):
            tensors[name] = value
            continue
        experts, columns, rows = value.shape
        blocks = (experts, rows, columns // 32, 16)
        tensors[f"{name}_blocks"] = torch.randint(0, 256, blocks, dtype=torch.uint8)
        tensors[f"{name}_scales"] = torch.randint(120, 125, blocks[:3], dtype=torch.uint8)
    save_file(tensors, path, metadata={"format": "pt"})
    _settle(folder, quantization_config={"quant_method": "mxfp4", "modules_to_not_convert": []})


def drafting(folder: Path) -> None:
    """Add GLM 4.5's block for drafting (MTP), which transformers does not make."""
    path = folder / "model.safetensors"
    tensors, last, new = load_file(path), "model.layers.2.", "model.layers.3."
    tensors |= {k.replace(last, new): v.clone() for k, v in tensors.items() if last in k}
    for name in ("enorm", "hnorm", "shared_head.norm"):
        tensors[f"{new}{name}.weight"] = tensors["model.norm.weight"].clone()
    for name, own in (("embed_tokens", "model.embed_tokens"), ("shared_head.head", "lm_head")):
        tensors[f"{new}{name}.weight"] = tensors[f"{own}.weight"].clone()
    tensors[f"{new}eh_proj.weight"] = _projection()
    save_file(tensors, path, metadata={"format": "pt"})
    _settle(folder, num_nextn_predict_layers=1)


def qwen_drafting(folder: Path) -> None:
    """Add the same of Qwen3-Next, without which the converter refuses it."""
    path = folder / "model.safetensors"
    tensors, last = load_file(path), "model.layers.3."
    tensors |= {k.replace(last, "mtp.layers.0."): v for k, v in tensors.items() if last in k}
    for name in ("pre_fc_norm_embedding", "pre_fc_norm_hidden", "norm"):
        tensors[f"mtp.{name}.weight"] = tensors["model.norm.weight"]
    tensors["mtp.fc.weight"] = _projection()
    save_file({k: v.clone() for k, v in tensors.items()}, path, metadata={"format": "pt"})


# Others are made from a model by a change: its name, and what changes it.
CHANGED = {
    "gpt-oss-mxfp4": ("gpt-oss", as_published),
    "glm4.5-mtp": ("glm4.5", drafting),
    "qwen3-next": ("qwen3-next", qwen_drafting),
}
NAMES = sorted({*MODELS, *CHANGED})


def _projection() -> torch.Tensor:
    return (0.08 * torch.randn(256, 512)).to(torch.bfloat16)


def _settle(folder: Path, **settings) -> None:
    """Change settings of a model's configuration; None takes one away."""
    path = folder / "config.json"
    found = json.loads(path.read_text()) | settings
    path.write_text(json.dumps({k: v for k, v in found.items() if v is not None}))


def _tokenizer(kind: str, folder: Path) -> None:
    if kind == SENTENCES:
        sentencepiece.SentencePieceTrainer.train(
            input=str(TEXT), model_prefix=str(folder / "tokenizer"), vocab_size=VOCABULARY,
            model_type="bpe", byte_fallback=True, max_sentence_length=20000,
            bos_id=2, eos_id=1, unk_id=0, minloglevel=2, num_threads=1,
        )  # fmt: skip
        return
    found = tokenizers.Tokenizer(tokenizers.models.BPE())
    found.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|begin|>", "<|end|>", *SPECIAL.split()],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )
    found.train([str(TEXT)], trainer)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=found, bos_token="<|begin|>", eos_token="<|end|>"
    ).save_pretrained(folder)


def _randomize(model: torch.nn.Module) -> None:
    """Give norms, biases and sinks values that matter."""
    fixed = ("A_log", "dt_bias", ".D")
    for name, value in model.named_parameters():
        if value.dim() == 1 and not any(part in name for part in fixed):
            value.data += 0.1 * torch.randn_like(value)
    for name, value in model.named_buffers():
        if "e_score_correction_bias" in name or "moe_statics" in name:
            value.data += 0.05 * torch.randn_like(value)


def write(name: str, folder: Path) -> None:
    """Write a model as Hugging Face lays it out."""
    base, change = CHANGED.get(name, (name, None))
    kind, tokenizer, own = MODELS[base]
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **SHARED | own)
    model = transformers.AutoModelForCausalLM.from_config(config)
    torch.manual_seed(1)
    _randomize(model)
    model.to(torch.bfloat16).save_pretrained(folder)
    _tokenizer(tokenizer, folder)
    _settle(folder, architectures=[CLASSES.get(base, type(model).__name__)])
    if change:
        change(folder)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    p.add_argument("name", choices=[*NAMES, "all"], help="all prints the names of all")
    p.add_argument("output", type=Path, nargs="?", help="GGUF to write")
    arguments = p.parse_args()
    if arguments.name == "all":
        print(*NAMES)
        return
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    sys.path.insert(0, str(converter.SCRIPT.parent))
    from conversion.base import TextModel

    TextModel.get_vocab_base_pre = lambda *_: "gpt-2"
    folder = Path(tempfile.mkdtemp()) / arguments.name
    try:
        write(arguments.name, folder)
        conversion.convert(folder, arguments.output)
    finally:
        shutil.rmtree(folder.parent)


if __name__ == "__main__":
    main()
