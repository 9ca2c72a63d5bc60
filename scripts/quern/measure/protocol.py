"""On what exactly a comparison was made, so that figures of others can be put beside it or not."""

import hashlib
from pathlib import Path

import numpy as np

from .window_store import WindowStore


def protocol(baseline: Path, comparison: Path) -> dict:
    """What must be the same for two comparisons' figures to mean the same.

    Args:
        baseline: the store that it was made with.
        comparison: its figures per position (HDF5).

    Returns:
        `n_ctx` (tokens per window), `scored` (the first and the last position of a window whose
        prediction is compared), `windows` (how many were compared), `tokens_sha256`,
        `tokenizer_sha256` and `n_vocab`.

        `tokens_sha256` is over the windows in their order in the text: of each its n_ctx tokens,
        then its scored positions, counted from 0, all as little-endian int32.

    Raises:
        QuernError: a store is missing or damaged.
    """
    with WindowStore.open(comparison) as store:
        windows, facts = np.flatnonzero(store.done), store.attributes
    first, last = facts["first_position"], facts["first_position"] + facts["n_scored"] - 1
    positions, digest = np.arange(first, last + 1, dtype="<i4").tobytes(), hashlib.sha256()
    with WindowStore.open(baseline) as store:
        for window in windows:
            digest.update(store.read("tokens", window).astype("<i4").tobytes())
            digest.update(positions)
        return {
            "n_ctx": int(facts["n_ctx"]),
            "scored": [int(first), int(last)],
            "windows": len(windows),
            "tokens_sha256": digest.hexdigest(),
            "tokenizer_sha256": store.attributes["tokenizer_sha256"],
            "n_vocab": int(store.attributes["n_vocab"]),
        }
