"""Numbers in fewer than eight bits, and float16, as bytes; all arrays are uint8 where not said."""

import numpy as np


def put_scales(scales: np.ndarray, out: np.ndarray) -> None:
    """Write float16 [rows] into [rows, 2]."""
    out[:] = scales.astype("<f2")[:, None].view(np.uint8)


def get_scales(raw: np.ndarray) -> np.ndarray:
    """The inverse, float16 [rows]."""
    return np.ascontiguousarray(raw).view("<f2")[:, 0]


def pair(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Two arrays of nibbles as bytes."""
    return low | high << 4


def nibbles(raw: np.ndarray) -> np.ndarray:
    """The low nibbles of rows of bytes, then the high ones."""
    return np.concatenate([raw & 15, raw >> 4], axis=-1)


def quartet(numbers: np.ndarray) -> np.ndarray:
    """Numbers of two bits, [rows, n, 4, width], as bytes [rows, n · width]; low bits first."""
    first, second, third, fourth = np.moveaxis(numbers, 2, 0)
    return (first | second << 2 | third << 4 | fourth << 6).reshape(len(numbers), -1)


def bit_pairs(raw: np.ndarray) -> np.ndarray:
    """The inverse: numbers [rows, n, 4, width] from bytes [rows, n, width]."""
    return np.stack([raw >> k & 3 for k in (0, 2, 4, 6)], axis=2)


def in_turn(raw: np.ndarray) -> np.ndarray:
    """The low and the high nibble of each byte in turn, [rows, 2 · n] from [rows, n]."""
    return np.stack([raw & 15, raw >> 4], axis=-1).reshape(len(raw), -1)


def pair_in_turn(numbers: np.ndarray) -> np.ndarray:
    """The inverse."""
    return pair(numbers[:, ::2], numbers[:, 1::2])
