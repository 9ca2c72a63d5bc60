"""The base file of `llama-perplexity --kl-divergence-base`, read for people who have one.

Layout (tools/perplexity/perplexity.cpp): `_logits_`; n_ctx, n_vocab, n_chunk as int32; the tokens,
int32 [n_chunk, n_ctx]; then for each scored position two float32, scale and smallest
log-probability, and n_vocab uint16, padded to an even number: ln p = scale · x + smallest.
"""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from .. import QuernError
from .window_store import WindowStore, window_range

_HEADER = 8 + 3 * 4


def convert(base: Path, output: Path, first: int | None = None, last: int | None = None) -> dict:
    """Write a baseline store of encoding `logits` (float32 log-probabilities).

    Returns:
        The store's attributes.

    Raises:
        QuernError: it is no such file, or is cut short.
    """
    if not base.is_file():
        raise QuernError(f"{base} does not exist.")
    with open(base, "rb") as file:
        if file.read(8) != b"_logits_":
            raise QuernError(f"{base} is no base file of llama-perplexity.")
        n_ctx, n_vocab, n_chunk = (int(n) for n in np.fromfile(file, np.int32, 3))
    if min(n_ctx - 2, n_vocab, n_chunk) < 1:
        raise QuernError(f"{base} is no base file of llama-perplexity: its header makes no sense.")
    begin, n_scored = n_ctx // 2, n_ctx - 1 - n_ctx // 2
    row = 4 + 2 * ((n_vocab + 1) // 2)
    data = _HEADER + 4 * n_chunk * n_ctx
    whole = (base.stat().st_size - data) // (2 * row * n_scored)
    wanted = window_range(first, last, n_chunk)
    if wanted[-1] >= whole:
        raise QuernError(
            f"{base} is cut short: it holds {max(whole, 0)} of {n_chunk} chunks; --to {whole} "
            "imports those."
        )
    tokens = np.memmap(base, np.int32, "r", _HEADER, (n_chunk, n_ctx))
    rows = np.memmap(base, np.uint16, "r", data, (whole, n_scored, row))
    attributes = {
        "kind": "baseline", "encoding": "logits", "dtype": "float32", "clipped": True,
        "encoding_reason": f"imported from {base.name}",
        "model_sha256": "", "tokenizer_sha256": "", "text_sha256": "",
        "n_ctx": n_ctx, "first_position": begin, "n_scored": n_scored, "n_vocab": n_vocab,
    }  # fmt: skip
    datasets = {
        "tokens": ((n_ctx,), np.int32),
        "logits": ((n_scored, n_vocab), np.float32),
    }
    with WindowStore.resume_or_create(output, n_chunk, datasets, attributes) as store:
        for window in tqdm(wanted, unit="window", desc="import", disable=None):
            if store.done[window]:
                continue
            scale, smallest = rows[window, :, :4].copy().view(np.float32).T
            if not _make_sense(scale, smallest) or not _known(tokens[window], n_vocab):
                raise QuernError(
                    f"{base} is damaged: chunk {window} holds what no model says; --to {window} "
                    "imports what is before it."
                )
            logits = rows[window, :, 4 : 4 + n_vocab].astype(np.float32)
            logits *= scale[:, None]
            logits += smallest[:, None]
            store.write(window, tokens=tokens[window], logits=logits)
            store.commit(window)
        store.finish(output)
    return attributes | {"n_windows": n_chunk, "bytes_per_token": 4.0 * n_vocab}


def _make_sense(scale: np.ndarray, smallest: np.ndarray) -> bool:
    """Whether rows of log-probabilities have finite scales, and no probability is above 1."""
    largest = smallest.astype(np.float64) + 65535.0 * scale
    finite = np.isfinite(largest) & np.isfinite(smallest)
    return bool(np.all(finite & (scale >= 0) & (largest < 1e-2)))


def _known(tokens: np.ndarray, n_vocab: int) -> bool:
    return bool(((tokens >= 0) & (tokens < n_vocab)).all())
