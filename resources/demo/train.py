"""Train the demo model on text that ships with Python, and write it as a GGUF.

In: the standard library of the Python that runs this. Out, beside this file: `demo-f16.gguf`
and the held-back text, `text/documents.jsonl` (source and docstrings) and `text/prose.txt`
(documentation topics).
"""

import argparse
import ast
import hashlib
import json
import math
import os
import sysconfig
import time
from pathlib import Path
from pydoc_data.topics import topics

import gguf
import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn

HERE = Path(__file__).parent
HELD_BACK = 0.18  # share of the units of text
LONGEST = 55_000  # characters of a held-back document; longer ones are for training
N_VOCAB, N_CTX, N_EMBD, N_HEAD, N_FF, N_LAYER = 4096, 512, 256, 4, 768, 6
EPS, ROPE_BASE = 1e-5, 10_000.0
BOS, EOS = 0, 1
SEPARATOR = "\n\n\n"


# --- text ------------------------------------------------------------------------------------


def read_documents() -> list[dict]:
    """Documents as {id, kind, unit, text}; documents of one unit are held back together."""
    found = [
        {"id": f"topic:{name}", "kind": "topic", "unit": f"topic:{name}", "text": text}
        for name, text in topics.items()
    ]
    library = Path(sysconfig.get_path("stdlib"))
    skipped = {"site-packages", "test", "tests", "idle_test", "pydoc_data", "__pycache__"}
    for path in sorted(library.rglob("*.py")):
        name = path.relative_to(library)
        if skipped & set(name.parts) or "encodings" in name.parts:
            continue
        try:
            source = path.read_text(encoding="utf-8")
            tree = ast.parse(source)
        except (UnicodeDecodeError, SyntaxError):
            continue
        unit = f"module:{name}"
        found.append({"id": f"source:{name}", "kind": "source", "unit": unit, "text": source})
        nodes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        strings = [ast.get_docstring(n) for n in ast.walk(tree) if isinstance(n, nodes)]
        if text := "\n\n".join(s for s in strings if s and len(s) > 80):
            found.append({"id": f"doc:{name}", "kind": "docstring", "unit": unit, "text": text})
    seen, kept = set(), []
    for document in found:
        document["text"] = document["text"].strip().replace("\0", "")
        if len(document["text"]) > 200 and document["text"] not in seen:
            seen.add(document["text"])
            kept.append(document)
    return kept


def split(documents: list[dict]) -> tuple[list[dict], list[dict]]:
    """Training and held-back documents, by a hash of their unit."""
    long = {d["unit"] for d in documents if len(d["text"]) > LONGEST}

    def held_back(document):
        digest = hashlib.sha256(document["unit"].encode()).digest()
        share = int.from_bytes(digest[:4], "big") / 2**32
        return share < HELD_BACK and document["unit"] not in long

    return [d for d in documents if not held_back(d)], [d for d in documents if held_back(d)]


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """A byte-level BPE with GPT-2's pre-tokenizer, which llama.cpp calls `gpt-2`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=N_VOCAB,
        special_tokens=["<|begin|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


# --- model -----------------------------------------------------------------------------------


class Block(nn.Module):
    """Attention and SwiGLU with the weights named as llama.cpp names them."""

    def __init__(self):
        super().__init__()
        self.attn_norm = nn.RMSNorm(N_EMBD, EPS)
        self.attn_q = nn.Linear(N_EMBD, N_EMBD, bias=False)
        self.attn_k = nn.Linear(N_EMBD, N_EMBD, bias=False)
        self.attn_v = nn.Linear(N_EMBD, N_EMBD, bias=False)
        self.attn_output = nn.Linear(N_EMBD, N_EMBD, bias=False)
        self.ffn_norm = nn.RMSNorm(N_EMBD, EPS)
        self.ffn_gate = nn.Linear(N_EMBD, N_FF, bias=False)
        self.ffn_up = nn.Linear(N_EMBD, N_FF, bias=False)
        self.ffn_down = nn.Linear(N_FF, N_EMBD, bias=False)

    def forward(self, x, cos, sin):
        n, length, _ = x.shape
        h = self.attn_norm(x)

        def heads(y):
            return y.view(n, length, N_HEAD, -1).transpose(1, 2)

        q = rotate(heads(self.attn_q(h)), cos, sin)
        k = rotate(heads(self.attn_k(h)), cos, sin)
        y = F.scaled_dot_product_attention(q, k, heads(self.attn_v(h)), is_causal=True)
        x = x + self.attn_output(y.transpose(1, 2).reshape(n, length, N_EMBD))
        h = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))


def rotate(x, cos, sin):
    """RoPE on neighbouring pairs, llama.cpp's layout for the llama architecture."""
    even, odd = x[..., ::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


class Llama(nn.Module):
    def __init__(self):
        super().__init__()
        self.token_embd = nn.Embedding(N_VOCAB, N_EMBD)
        self.blk = nn.ModuleList(Block() for _ in range(N_LAYER))
        self.output_norm = nn.RMSNorm(N_EMBD, EPS)
        self.output = nn.Linear(N_EMBD, N_VOCAB, bias=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                last = name.endswith(("attn_output.weight", "ffn_down.weight"))
                nn.init.normal_(weight, std=0.02 / (math.sqrt(2 * N_LAYER) if last else 1))
        half = torch.arange(0, N_EMBD // N_HEAD, 2) / (N_EMBD // N_HEAD)
        angle = torch.arange(N_CTX)[:, None] / ROPE_BASE**half
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, tokens):
        x = self.token_embd(tokens)
        for block in self.blk:
            x = block(x, self.cos, self.sin)
        return self.output(self.output_norm(x))


def loss_of(model, windows):
    """Mean negative log-likelihood (nats) of each next token."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(windows)
    return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), windows[:, 1:].flatten())


def train(stream: np.ndarray, minutes: float, seed: int, batch: int = 16) -> Llama:
    """Train for a given time; the learning rate falls linearly to zero by its end."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = Llama()
    matrices = [w for w in model.blk.parameters() if w.ndim == 2]
    inside = {id(w) for w in matrices}
    others = [w for w in model.parameters() if id(w) not in inside]
    optimizers = [
        torch.optim.Muon(matrices, lr=4e-3, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=4e-3, betas=(0.9, 0.95), weight_decay=0.01),
    ]
    peaks = [o.param_groups[0]["lr"] for o in optimizers]
    step, start = 0, time.monotonic()
    while (done := (time.monotonic() - start) / (60 * minutes)) < 1:
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * min((step + 1) / 100, 1 - done)
        begin = rng.integers(0, len(stream) - N_CTX, batch)
        windows = torch.from_numpy(stream[begin[:, None] + np.arange(N_CTX)].astype(np.int64))
        windows[:, 0] = BOS
        loss = loss_of(model, windows)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        step += 1
        if step % 50 == 0:
            rate = step * batch * N_CTX / (time.monotonic() - start)
            print(f"{done:6.1%}  step {step}  loss {loss:.3f}  {rate:,.0f} tokens/s", flush=True)
    return model.eval()


@torch.no_grad()
def evaluate(model: Llama, stream: np.ndarray, windows: int = 64) -> float:
    """Perplexity over all positions of the first windows of a stream."""
    cut = stream[: len(stream) // N_CTX * N_CTX].reshape(-1, N_CTX)[:windows].astype(np.int64)
    cut = torch.from_numpy(cut)
    cut[:, 0] = BOS
    return math.exp(np.mean([float(loss_of(model, w[None])) for w in cut]))


# --- output ----------------------------------------------------------------------------------


def write_gguf(path: Path, model: Llama, tokenizer: Tokenizer) -> None:
    """Matrices in f16, norms in f32, written atomically."""
    temporary = path.with_suffix(".tmp")
    writer = gguf.GGUFWriter(temporary, "llama")
    writer.add_name("Quern demo")
    writer.add_description("A small model of Python's own text, for trying Quern")
    writer.add_context_length(2048)
    writer.add_embedding_length(N_EMBD)
    writer.add_block_count(N_LAYER)
    writer.add_feed_forward_length(N_FF)
    writer.add_head_count(N_HEAD)
    writer.add_layer_norm_rms_eps(EPS)
    writer.add_rope_dimension_count(N_EMBD // N_HEAD)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_vocab_size(N_VOCAB)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    vocabulary = json.loads(tokenizer.to_str())["model"]
    names = sorted(vocabulary["vocab"], key=vocabulary["vocab"].get)
    kinds = [gguf.TokenType.CONTROL] * 2 + [gguf.TokenType.NORMAL] * (len(names) - 2)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(names)
    writer.add_token_types(kinds)
    writer.add_token_merges(
        [m if isinstance(m, str) else " ".join(m) for m in vocabulary["merges"]]
    )
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    for name, weight in model.named_parameters():
        values = weight.detach().numpy()
        writer.add_tensor(name, values.astype(np.float16 if values.ndim == 2 else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(temporary, path)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--minutes", type=float, default=25, help="training time (default: 25)")
    p.add_argument("--seed", type=int, default=0, help="of weights and batches (default: 0)")
    p.add_argument("--output", type=Path, default=HERE, help="folder (default: this one)")
    arguments = p.parse_args()

    documents = read_documents()
    training, held_back = split(documents)
    (arguments.output / "text").mkdir(parents=True, exist_ok=True)
    prose = SEPARATOR.join(d["text"] for d in held_back if d["kind"] == "topic")
    (arguments.output / "text/prose.txt").write_text(prose + "\n", encoding="utf-8")
    with open(arguments.output / "text/documents.jsonl", "w", encoding="utf-8") as file:
        for d in held_back:
            if d["kind"] != "topic":
                file.write(
                    json.dumps({"id": d["id"], "text": d["text"]}, ensure_ascii=False) + "\n"
                )

    # Prose is a tenth of the text; twice as much of it balances the mix.
    texts = [d["text"] for d in training for _ in range(1 if d["kind"] == "source" else 2)]
    tokenizer = train_tokenizer([d["text"] for d in training])
    np.random.default_rng(arguments.seed).shuffle(texts)
    stream = np.concatenate([np.array(e.ids, np.uint16) for e in tokenizer.encode_batch(texts)])
    test = tokenizer.encode_batch([d["text"] for d in held_back])
    test = np.concatenate([np.array(e.ids, np.uint16) for e in test])
    print(f"{len(training)} documents, {len(stream):,} tokens; held back {len(test):,} tokens")
    model = train(stream, arguments.minutes, arguments.seed)
    print(f"held-back perplexity {evaluate(model, test):.2f}")
    write_gguf(arguments.output / "demo-f16.gguf", model, tokenizer)


if __name__ == "__main__":
    main()
