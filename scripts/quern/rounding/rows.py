"""Rounding of whole rows: the weights of a tensor become the bytes of its type."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .. import QuernError
from .block_type import ROUNDINGS, BlockType, Rows
from .grids import GRIDS
from .layouts import CODED

TYPES: dict[str, type[BlockType]] = CODED | GRIDS


def covers(rounding: str, kind: str) -> bool:
    """Whether a rounding exists for a type."""
    return kind in TYPES and rounding in TYPES[kind].roundings


def round_rows(kind: str, rounding: str, rows: Rows, *, threads: int = 1) -> np.ndarray:
    """Quantize rows to a type; the result does not depend on the number of threads.

    Args:
        kind: one of `TYPES`.
        rounding: one of `ROUNDINGS`; it must cover the kind.

    Returns:
        The rows' bytes as ggml lays them out, uint8 [rows, bytes of a row].

    Raises:
        QuernError: the type or rounding is unknown, the shapes do not fit, a value or importance is
            not finite, an importance is negative, or the rows lack what llama.cpp made of them.
    """
    if not covers(rounding, kind):
        known = "; ".join(
            f"{name} for {', '.join(k for k in TYPES if covers(name, k))}" for name in ROUNDINGS
        )
        raise QuernError(f"there is no rounding {rounding} for {kind}; there are {known}.")
    found, rows = TYPES[kind], TYPES[kind].checked(rows)

    def work(part):
        return found.round(part, rounding)

    return in_parts(work, rows, found.rows_at_once(rows.values.shape[1]), threads)


def dequantize_rows(kind: str, raw: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The weights of rows from their bytes, float32 of this shape."""
    return TYPES[kind].dequantize(raw.reshape(-1, TYPES[kind].bytes)).reshape(shape)


def in_parts(
    work: Callable[[Rows], np.ndarray], rows: Rows, at_once: int, threads: int
) -> np.ndarray:
    """What `work` makes of so many rows at once, together."""
    firsts = range(0, len(rows.values), at_once)
    parts = (rows.part(slice(first, first + at_once)) for first in firsts)
    if threads == 1 or len(firsts) == 1:
        return np.concatenate([work(part) for part in parts])
    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate(list(pool.map(work, parts)))
