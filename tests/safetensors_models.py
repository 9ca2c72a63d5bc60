"""Small models in Hugging Face's layout, with random weights, for tests and nothing else."""

import json
from pathlib import Path

import numpy as np

_TYPES = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}


def write_safetensors(path: Path, tensors: dict[str, np.ndarray], kind: str) -> None:
    """Write tensors of float32 as `kind` (F32, F16, BF16: the upper half), shapes as they are.

    Source: https://github.com/huggingface/safetensors#format.
    """
    header, parts, at = {}, [], 0
    for name, values in tensors.items():
        values = values.astype(np.float32)
        if kind == "BF16":
            values = values.view(np.uint32) >> 16
        part = values.astype(_TYPES[kind]).tobytes()
        shape = list(tensors[name].shape)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + len(part)]}
        parts.append(part)
        at += len(part)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))


def write_tokenizer(path: Path) -> int:
    """Write a SentencePiece model of single bytes and letters; returns the number of its tokens.

    Source: https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto.
    """
    normal, unknown, control, byte = 1, 2, 3, 6
    pieces = [("<unk>", unknown), ("<s>", control), ("</s>", control)]
    pieces += [(f"<0x{i:02X}>", byte) for i in range(256)]
    pieces += [(letter, normal) for letter in "▁etaoinshrdlu"]

    def field(number, content):
        return bytes([number << 3 | 2, len(content)]) + content

    written = b""
    for i, (piece, kind) in enumerate(pieces):
        score = b"\x15" + np.float32(-i).tobytes()
        written += field(1, field(1, piece.encode()) + score + bytes([0x18, kind]))
    by_pairs, with_bytes = b"\x18\x02", b"\x98\x02\x01"
    written += field(2, by_pairs + with_bytes) + field(3, field(1, b"identity"))
    path.write_bytes(written)
    return len(pieces)


def write_folder(folder: Path, kind: str = "BF16", n_embd: int = 64, n_ff: int = 96) -> dict:
    """Write a Llama of two blocks in as many files; returns its tensors (float32)."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    tokens = write_tokenizer(folder / "tokenizer.model")
    shapes = {"model.embed_tokens.weight": (tokens, n_embd), "model.norm.weight": (n_embd,)}
    for i in range(2):
        own = {f"self_attn.{name}_proj": (n_embd, n_embd) for name in "qkvo"}
        own |= {"mlp.gate_proj": (n_ff, n_embd), "mlp.up_proj": (n_ff, n_embd)}
        own |= {"mlp.down_proj": (n_embd, n_ff)}
        own |= {"input_layernorm": (n_embd,), "post_attention_layernorm": (n_embd,)}
        shapes |= {f"model.layers.{i}.{name}.weight": shape for name, shape in own.items()}
    shapes["lm_head.weight"] = (tokens, n_embd)
    tensors = {
        name: _rounded(rng.standard_normal(shape, np.float32) / 8)
        if len(shape) > 1
        else np.ones(shape, np.float32)
        for name, shape in shapes.items()
    }
    names, places = list(tensors), {}
    for number, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        write_safetensors(folder / file, {name: tensors[name] for name in part}, kind)
        places |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": n_embd,
        "intermediate_size": n_ff,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "vocab_size": tokens,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return tensors


def _rounded(values: np.ndarray) -> np.ndarray:
    """Float32 that BF16 and F16 hold as they are."""
    kept = (values.view(np.uint32) >> 16 << 16).view(np.float32)
    return np.where(np.abs(kept) < 2.0**-10, np.float32(0), kept)
