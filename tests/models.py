"""Small models with random weights, written as GGUF, for tests and nothing else."""

from pathlib import Path

import gguf
import numpy as np


def byte_tokens() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes, in order of the bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(others)) for b in range(256)]


def write_model(
    path: Path,
    *,
    seed: int = 0,
    n_embd: int = 256,
    n_ff: int = 256,
    n_layer: int = 2,
    n_head: int = 4,
    experts: int = 0,
    experts_used: int = 2,
    dead_expert: int | None = None,
    tokens: int = 300,
    padding: int = 0,
    renamed: dict[int, str] | None = None,
    scores: bool = False,
    dtype: str = "F16",
    add_bos: bool = True,
    architecture: str = "llama",
    tied: bool = False,
    output_bias: bool = False,
    logit_scale: float | None = None,
    softcap: float | None = None,
    chat_template: str | None = None,
    pre_tokenizer: str = "gpt-2",
    context_length: int = 2048,
    expert_dtype: str | None = None,
    metadata: dict[str, int | float | bool | str] | None = None,
    drafting: bool = False,
) -> Path:
    """Write a model (mixture of experts where `experts` > 0) with a byte-level tokenizer.

    `dead_expert` names an expert that the router never chooses; `dtype` is ggml's name of the
    matrices' type, `expert_dtype` that of the experts' where it is another; `logit_scale` and
    `softcap` are metadata that some architectures know, and
    `metadata` is added to what is written anyway. `padding` adds tokens at the end and leaves all
    other weights alone, `renamed` gives tokens other texts, `scores` adds some of them. `drafting`
    adds a block for drafting, which llama.cpp knows of `glm4` and not of `llama`.
    """
    rng = np.random.default_rng(seed)

    def matrix(*shape, scale=1.0):
        return rng.standard_normal(shape, np.float32) * np.float32(scale / np.sqrt(shape[-1]))

    writer = gguf.GGUFWriter(path, architecture)

    def add(name, values):
        own = expert_dtype if expert_dtype and "_exps" in name else dtype
        kind = gguf.GGMLQuantizationType[own]
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)

    writer.add_name(f"random-{seed}")
    writer.add_context_length(context_length)
    writer.add_embedding_length(n_embd)
    writer.add_block_count(n_layer + drafting)
    if drafting:
        writer.add_nextn_predict_layers(1)
    writer.add_feed_forward_length(n_ff)
    writer.add_head_count(n_head)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(n_embd // n_head)
    writer.add_file_type(1)
    if logit_scale:
        writer.add_logit_scale(logit_scale)
    if softcap:
        writer.add_final_logit_softcapping(softcap)
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(experts_used)
    names = [*byte_tokens(), "<|begin|>"]
    names += [f"<unused{i}>" for i in range(tokens - len(names))]
    kinds = [gguf.TokenType.NORMAL] * 256 + [gguf.TokenType.CONTROL]
    kinds += [gguf.TokenType.UNUSED] * (tokens - len(kinds))
    names += [f"[PAD{i}]" for i in range(padding)]
    kinds += [gguf.TokenType.USER_DEFINED] * padding
    for i, text in (renamed or {}).items():
        names[i] = text
    writer.add_tokenizer_model("gpt2")
    if pre_tokenizer:
        writer.add_tokenizer_pre(pre_tokenizer)
    writer.add_token_list(names)
    writer.add_token_types(kinds)
    if scores:
        writer.add_token_scores([-float(i) for i in range(len(names))])
    first, second = byte_tokens()[ord("e")], byte_tokens()[ord(" ")]
    writer.add_token_merges([f"{first} {second}"])
    if "tokenizer.ggml.bos_token_id" not in (metadata or {}):
        writer.add_bos_token_id(256)
    writer.add_eos_token_id(256)
    writer.add_add_bos_token(add_bos)
    if chat_template:
        writer.add_chat_template(chat_template)

    for key, value in (metadata or {}).items():
        add_key = {str: writer.add_string, float: writer.add_float32, bool: writer.add_bool}
        add_key.get(type(value), writer.add_uint32)(key, value)

    embeddings = matrix(tokens, n_embd, scale=np.sqrt(n_embd))
    # Every token has this large component, by which a router can avoid an expert.
    embeddings[:, 0] = 10
    more = np.random.default_rng(seed + 1)

    def padded(rows):
        """The same with rows for the padding, which say something at every position."""
        return np.vstack([rows, more.standard_normal((padding, n_embd), np.float32) / 4])

    embeddings = padded(embeddings)
    add("token_embd.weight", embeddings)
    ones = np.ones(n_embd, np.float32)

    def add_block(i):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"blk.{i}.{name}.weight", matrix(n_embd, n_embd))
        norms = ["attn_norm", "ffn_norm"]
        post = architecture in ("gemma2", "glm4")
        norms += ["post_attention_norm", "post_ffw_norm"] if post else []
        for name in norms:
            writer.add_tensor(f"blk.{i}.{name}.weight", ones)
        if experts:
            router = matrix(experts, n_embd)
            if dead_expert is not None:
                router[:, 0] = np.where(np.arange(experts) == dead_expert, -100, 0)
            writer.add_tensor(f"blk.{i}.ffn_gate_inp.weight", router)
        stack = (experts,) if experts else ()
        kind = "_exps" if experts else ""
        if architecture == "glm4":  # both in one
            add(f"blk.{i}.ffn_up.weight", matrix(2 * n_ff, n_embd))
        else:
            add(f"blk.{i}.ffn_gate{kind}.weight", matrix(*stack, n_ff, n_embd))
            add(f"blk.{i}.ffn_up{kind}.weight", matrix(*stack, n_ff, n_embd))
        add(f"blk.{i}.ffn_down{kind}.weight", matrix(*stack, n_embd, n_ff))

    for i in range(n_layer):
        add_block(i)
    writer.add_tensor("output_norm.weight", ones)
    if not tied:
        add("output.weight", padded(matrix(tokens, n_embd, scale=3)))
    if output_bias:
        biases = rng.standard_normal(tokens + padding, np.float32) * 3
        writer.add_tensor("output.bias", biases)
    if drafting:
        add_block(n_layer)
        block = f"blk.{n_layer}.nextn"
        add(f"{block}.eh_proj.weight", matrix(n_embd, 2 * n_embd))
        for name in ("enorm", "hnorm"):
            writer.add_tensor(f"{block}.{name}.weight", ones)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
