"""Train the demo model on text that ships with Python, and write it as a GGUF.

In: the standard library of the Python that runs this. Out, beside this file: `demo-f16.gguf`
and text that was held back from training, `text/documents.jsonl` (source and docstrings) and
`text/prose.txt` (documentation topics).
"""

import argparse
import ast
import hashlib
import json
import math
import os
import re
import sysconfig
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

import gguf
import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn

HERE = Path(__file__).parent
HELD_BACK = 0.3  # share of the groups of documents
SALT = 4  # of the split; this one leaves a fair share of prose on both sides
LARGEST = 150_000  # characters of a held-back group; larger ones are for training
RUN = 20  # words in a row that two documents share if one quotes the other
REPEATS = {"topic": 4, "docstring": 2, "source": 1}  # how often training sees each kind
N_VOCAB, N_CTX, N_EMBD, N_HEAD, N_FF, N_LAYER = 4096, 512, 256, 4, 768, 6
N_CTX_MAX = 2048  # what the GGUF claims; RoPE extends to it, training does not
EPS, ROPE_BASE = 1e-5, 10_000.0
BOS, EOS = 0, 1
JOIN = "\n\n"  # between documents in training, as in Quern's corpora
SEPARATOR = "\n\n\n"  # between documents in prose.txt; never inside one


# --- text ------------------------------------------------------------------------------------


def read_documents() -> list[dict]:
    """Documents as {id, kind, unit, text}; a module's source and docstrings are one unit."""
    found = [
        {"id": f"topic:{name}", "kind": "topic", "unit": f"topic:{name}", "text": text}
        for name, text in topics.items()
    ]
    library = Path(sysconfig.get_path("stdlib"))
    skipped = {"site-packages", "test", "tests", "idle_test", "pydoc_data", "encodings"}
    for path in sorted(library.rglob("*.py")):
        name = path.relative_to(library)
        made_by_build = name.parts[0].startswith(("_sysconfigdata", "config-"))
        if skipped & set(name.parts) or made_by_build:
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
        text = document["text"].strip().replace("\0", "")
        if document["kind"] == "topic":
            text = re.sub(r"\n{3,}", "\n\n", text)
        if len(text) > 200 and text not in seen:
            seen.add(text)
            kept.append({**document, "text": text})
    return kept


def word_runs(text: str) -> set[int]:
    """Hashes of every run of `RUN` words."""
    words = text.split()
    return {hash(tuple(words[i : i + RUN])) for i in range(len(words) - RUN + 1)}


def group(documents: list[dict]) -> list[list[dict]]:
    """Groups of documents, such that no run of words occurs in two groups."""
    parent = {d["unit"]: d["unit"] for d in documents}

    def root(unit):
        while parent[unit] != unit:
            unit = parent[unit]
        return unit

    first = {}
    for d in documents:
        for run in word_runs(d["text"]):
            other = first.setdefault(run, d["unit"])
            if other != d["unit"]:
                parent[root(d["unit"])] = root(other)
    groups = defaultdict(list)
    for d in documents:
        groups[root(d["unit"])].append(d)
    return list(groups.values())


def order(name: str) -> float:
    """A number from 0 to 1 that depends on the name and the salt alone."""
    digest = hashlib.sha256(f"{SALT}:{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


def split(documents: list[dict]) -> tuple[list[dict], list[dict]]:
    """Training and held-back documents.

    Whole groups are held back, by a hash of their names, so nothing held back is quoted in
    training. Of held-back documents that quote each other one is kept, so that evaluation and
    calibration can be cut from them without sharing text either.
    """
    training, held_back = [], []
    for members in group(documents):
        small = sum(len(d["text"]) for d in members) <= LARGEST
        if not small or order(min(d["unit"] for d in members)) >= HELD_BACK:
            training += members
            continue
        kept = set()
        for d in sorted(members, key=lambda d: order(d["id"])):
            runs = word_runs(d["text"])
            if not runs & kept:
                kept |= runs
                held_back.append(d)
    return training, held_back


def write_text(folder: Path, held_back: list[dict]) -> tuple[str, str]:
    """Write the held-back documents; returns them joined, first the library, then the prose."""
    folder.mkdir(parents=True, exist_ok=True)
    prose = [d["text"] for d in held_back if d["kind"] == "topic"]
    library = [d for d in held_back if d["kind"] != "topic"]
    records = [{"id": d["id"], "text": d["text"]} for d in library]
    lines = [json.dumps(r, ensure_ascii=False) + "\n" for r in records]
    (folder / "documents.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / "prose.txt").write_text(SEPARATOR.join(prose) + "\n", encoding="utf-8")
    return JOIN.join(d["text"] for d in library), JOIN.join(prose)


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


def batches(stream: np.ndarray, size: int, seed: int) -> Iterator[torch.Tensor]:
    """Windows that start with BOS; each pass over the stream cuts and shuffles them anew."""
    rng = np.random.default_rng(seed)
    while True:
        starts = np.arange(rng.integers(N_CTX), len(stream) - N_CTX, N_CTX)
        rng.shuffle(starts)
        for i in range(0, len(starts) - size + 1, size):
            windows = stream[starts[i : i + size, None] + np.arange(N_CTX)].astype(np.int64)
            windows[:, 0] = BOS
            yield torch.from_numpy(windows)


def train(stream: np.ndarray, minutes: float, seed: int, batch: int, compiled: bool) -> Llama:
    """Train for a given time; the learning rate falls linearly to zero by its end."""
    torch.manual_seed(seed)
    model = Llama()
    matrices = [w for w in model.blk.parameters() if w.ndim == 2]
    inside = {id(w) for w in matrices}
    others = [w for w in model.parameters() if id(w) not in inside]
    optimizers = [
        torch.optim.Muon(matrices, lr=3e-3, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=3e-3, betas=(0.9, 0.95), weight_decay=0.01),
    ]
    peaks = [o.param_groups[0]["lr"] for o in optimizers]
    loss_function = torch.compile(loss_of) if compiled else loss_of
    start, losses = time.monotonic(), []
    for windows in batches(stream, batch, seed):
        done = (time.monotonic() - start) / (60 * minutes)
        if done >= 1:
            break
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * min((len(losses) + 1) / 100, 1 - done)
        loss = loss_function(model, windows)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
        if len(losses) % 50 == 0:
            tokens = len(losses) * batch * N_CTX
            rate = tokens / (time.monotonic() - start)
            recent = np.mean(losses[-50:])
            print(
                f"{done:6.1%}  {tokens:,} tokens  loss {recent:.3f}  {rate:,.0f} tokens/s",
                flush=True,
            )
    return model.eval()


@torch.no_grad()
def perplexity(model: Llama, tokens: np.ndarray) -> float:
    """Perplexity as llama-perplexity counts it: over the second half of every window."""
    windows = tokens[: len(tokens) // N_CTX * N_CTX].reshape(-1, N_CTX).astype(np.int64)
    windows[:, 0] = BOS
    losses = []
    for window in torch.from_numpy(windows):
        logits = model(window[None])[0, N_CTX // 2 : -1]
        losses.append(F.cross_entropy(logits, window[N_CTX // 2 + 1 :]).item())
    return math.exp(np.mean(losses))


# --- output ----------------------------------------------------------------------------------


def write_gguf(path: Path, model: Llama, tokenizer: Tokenizer) -> None:
    """Matrices in f16, norms in f32, written atomically."""
    temporary = path.with_suffix(".tmp")
    writer = gguf.GGUFWriter(temporary, "llama")
    writer.add_name("Quern demo")
    writer.add_description("A small model of Python's own text, for trying Quern")
    writer.add_license("PSF-2.0")
    writer.add_context_length(N_CTX_MAX)
    writer.add_embedding_length(N_EMBD)
    writer.add_block_count(N_LAYER)
    writer.add_feed_forward_length(N_FF)
    writer.add_head_count(N_HEAD)
    writer.add_head_count_kv(N_HEAD)
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
    p.add_argument("--batch", type=int, default=8, help="windows in a step (default: 8)")
    p.add_argument("--seed", type=int, default=0, help="of weights and batches (default: 0)")
    p.add_argument("--threads", type=int, help="of PyTorch (default: its own choice)")
    p.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="use torch.compile, which needs a C++ compiler (default: yes)",
    )
    p.add_argument("--output", type=Path, default=HERE, help="folder (default: this one)")
    arguments = p.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)

    training, held_back = split(read_documents())
    library, prose = write_text(arguments.output / "text", held_back)
    for name, documents in (("training", training), ("held back", held_back)):
        characters = Counter()
        for d in documents:
            characters[d["kind"]] += len(d["text"])
        figures = ", ".join(f"{kind} {n:,}" for kind, n in characters.items())
        print(f"{name}: {len(documents)} documents; characters: {figures}")

    tokenizer = train_tokenizer([d["text"] for d in training])

    def encode(texts):
        return np.concatenate([np.array(e.ids, np.uint16) for e in tokenizer.encode_batch(texts)])

    texts = [d["text"] + JOIN for d in training for _ in range(REPEATS[d["kind"]])]
    np.random.default_rng(arguments.seed).shuffle(texts)
    stream, held = encode(texts), {"library": encode([library]), "prose": encode([prose])}
    figures = ", ".join(f"{name} {len(tokens):,}" for name, tokens in held.items())
    print(f"tokens: training {len(stream):,}; held back: {figures}", flush=True)

    model = train(stream, arguments.minutes, arguments.seed, arguments.batch, arguments.compile)
    write_gguf(arguments.output / "demo-f16.gguf", model, tokenizer)
    for name, tokens in held.items():
        print(f"perplexity of held-back {name}: {perplexity(model, tokens):.2f}", flush=True)


if __name__ == "__main__":
    main()
