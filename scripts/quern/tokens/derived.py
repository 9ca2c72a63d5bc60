"""Tokens that are derived from a pool's: in another order, of some windows, or at random."""

import hashlib
import json
from pathlib import Path

import numpy as np

from .. import QuernError
from ..llama import VERSION, Model, samples
from . import chosen, pseudo_random, reorder
from .derivation import Derivation
from .windows import Tokens, TokenWriter, read_tokens


def contents(
    derivation: Derivation,
    model: Model,
    pool: Tokens,
    text: Path | None = None,
    documents: Path | None = None,
    comparison: Path | None = None,
) -> np.ndarray:
    """What the windows hold besides BOS, int32 [windows, n_ctx - 1]; one more without BOS.

    Args:
        text: the pool's, for orders of documents and for words.
        documents: the table of its documents, for their orders.
        comparison: CSV from compare.py, for the highest and the lowest.

    Raises:
        QuernError: what it needs is missing, or the pool has too few windows.
    """
    if derivation.random:
        return _random(derivation, model, text)
    if derivation.which:
        return reorder.contents(pool, derivation.n_ctx, _chosen(derivation, pool, comparison))
    rng, order = np.random.default_rng(derivation.seed), derivation.order
    if order is None:
        raise QuernError("say what to make, by --order, --random or --which.")
    windows = pool.n_windows(derivation.n_ctx, derivation.windows)
    content = reorder.contents(pool, derivation.n_ctx, range(windows))
    if order == "random-windows":
        return reorder.random_windows(content, rng)
    if order == "shuffled-tokens":
        return reorder.shuffled_tokens(content, rng)
    if order == "shuffled-sentences":
        return reorder.shuffled_sentences(content, reorder.sentence_ends(model, content), rng)
    _require(order, text=text, documents=documents)
    document, place = reorder.documents_of(model, pool, derivation.n_ctx, windows, text, documents)
    rank = place if order == "documents" else rng.permutation(len(place))
    return reorder.by_rank(content, document, rank)


def _random(derivation: Derivation, model: Model, text: Path | None) -> np.ndarray:
    if derivation.windows is None:
        raise QuernError("text at random has no end of its own; give --windows.")
    shape = derivation.windows, derivation.n_ctx - model.add_bos
    if derivation.random == "samples":
        return np.stack(list(samples(model, *shape, derivation.seed)))
    rng, count = np.random.default_rng(derivation.seed), shape[0] * shape[1]
    if derivation.random == "tokens":
        found = pseudo_random.random_tokens(model, count, rng)
    elif derivation.random == "bytes":
        found = pseudo_random.random_bytes(model, count, rng)
    else:
        _require("words", text=text)
        found = pseudo_random.random_words(model, count, rng, text)
    return found.reshape(shape)


def _chosen(derivation: Derivation, pool: Tokens, comparison: Path | None) -> np.ndarray:
    if derivation.windows is None:
        raise QuernError(f"give --windows, how many {derivation.which} ones are chosen.")
    if derivation.which != "random":
        _require(derivation.which, comparison=comparison)
        return chosen.by_divergence(comparison, derivation.windows, derivation.which)
    available = pool.n_windows(derivation.n_ctx, derivation.among)
    return chosen.at_random(available, derivation.windows, derivation.seed, str(pool.path))


def _require(what: str, **files: Path | None) -> None:
    for name, path in files.items():
        if path is None:
            raise QuernError(f"{what} needs --{name}.")


def write(
    output: Path,
    model: Model,
    pool: Tokens,
    derivation: Derivation,
    content: np.ndarray,
    done: dict,
) -> dict:
    """Write a token file (HDF5) that may be cut into these windows alone.

    Args:
        content: as `contents` gives it.
        done: what was done, for the record.

    Returns:
        Facts of the tokens. Their `text_sha256` is a hash of the pool's, of what was done, and of
        what came of it.
    """
    digest = hashlib.sha256(content.tobytes()).hexdigest()
    from_what = json.dumps([pool.text_sha256, done, digest], sort_keys=True)
    text_sha256 = hashlib.sha256(from_what.encode()).hexdigest()
    bos = np.full((len(content), int(model.add_bos)), model.bos, np.int32)
    tokens = np.hstack([bos, content]).astype(np.int32)
    with TokenWriter(output, model, pool.tokenizer_sha256, text_sha256, None, False) as writer:
        writer.attributes["n_ctx"] = derivation.n_ctx
        writer.append(tokens.ravel(), None)
    found = read_tokens(output)
    return {
        "tokens": found.count,
        "bos": found.bos,
        "text_sha256": text_sha256,
        "tokenizer_sha256": found.tokenizer_sha256,
        "llama_cpp_python": VERSION,
        "mixed_windows": derivation.n_ctx,
        "pool_sha256": pool.text_sha256,
        "made": done,
    }
