"""Where a recipe strays most: the tokens of the largest divergence, in their context."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import QuernError
from ..measure.window_store import WindowStore

APART = 16  # positions of one window between two that are shown, so that no passage comes twice
BEFORE, AFTER = 48, 12  # tokens of context


@dataclass(frozen=True)
class Stray:
    """One position.

    Attributes:
        window, position: of the token that was to be predicted, in its window.
        kld: nats.
        p_base, p: probability of that token for the baseline and for the recipe.
        before, token, after: the text around it.
        source: what it was taken from; empty where that is not known.
    """

    window: int
    position: int
    kld: float
    p_base: float
    p: float
    before: str
    token: str
    after: str
    source: str


def strays(
    positions: Path,
    baseline: Path,
    pieces: Callable[[np.ndarray], list[bytes]],
    count: int = 12,
) -> list[Stray]:
    """The positions with the largest divergence, largest first.

    Args:
        positions: figures per position of a comparison (HDF5).
        baseline: the store that it was compared with, for the tokens.
        pieces: text of tokens, as `llama.Model.pieces`.
        count: how many.

    Raises:
        QuernError: a store is damaged, or the two do not belong together.
    """
    with WindowStore.open(positions) as store, WindowStore.open(baseline) as base:
        own, other = store.attributes, base.attributes
        if own["baseline_sha256"] != other["model_sha256"]:
            raise QuernError(f"{positions} was not compared with {baseline}; make it anew.")
        numbers, kld = np.flatnonzero(store.done), store.rows("kld")
        first, found = own["first_position"], []
        for row, place in _apart(kld, count):
            window, position = int(numbers[row]), first + place + 1
            tokens = base.read("tokens", window)
            source = _source(store, window, place)
            p_base, p = (np.exp(-store.read(n, window)[place]) for n in ("nll_base", "nll"))
            parts = np.split(tokens, [position, position + 1])
            parts = parts[0][-BEFORE:], parts[1], parts[2][:AFTER]
            texts = [b"".join(pieces(part)).decode(errors="replace") for part in parts]
            figures = float(kld[row, place]), float(p_base), float(p)
            found.append(Stray(window, position, *figures, *texts, source))
    return found


def _apart(kld, count):
    """Window and position of the largest values, those of one window some way apart."""
    left = kld.copy()
    for _ in range(min(count, kld.size)):
        row, place = np.unravel_index(left.argmax(), left.shape)
        if left[row, place] <= 0:
            return
        left[row, max(0, place - APART) : place + APART + 1] = 0
        yield int(row), int(place)


def _source(store, window, place):
    names = json.loads(store.attributes.get("sources", "[]"))
    return names[store.read("source", window)[place]] if names else ""


def share_of_worst(positions: Path, worst: float = 0.01) -> float:
    """The share of the whole divergence that lies in this share of the positions."""
    with WindowStore.open(positions) as store:
        kld = np.sort(store.rows("kld"), axis=None)[::-1]
    return float(
        kld[: max(1, round(worst * kld.size))].sum() / max(kld.sum(), np.finfo(float).tiny)
    )
