"""Types whose weights are looked up together: groups of them in a grid of magnitudes, with signs.

    weight = scale · (2 · factor + 1) · unit · sign · grid[entry]

llama.cpp finds entries, signs and scales by itself; here they are improved, by the importances or
by the whole second moment: every group may move to entries near its own and change signs, and
scales are refitted, each where that lowers eᵀ H e. Bytes are as in ggml/src/ggml-common.h; the
grids are those of the package gguf.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import gguf.quants
import numpy as np

from .. import QuernError, blas
from .kernels.compensation import Factors
from .kernels.grids import descend
from .refits import refit_all

NEAR = 16  # entries that a group may move to
PASSES = 6
WEIGHTS = 256  # of a block
_AT_ONCE = 96  # rows that a thread takes at once
_FEW = 1000  # A thousandth of the weights is next to nothing.
_F = np.float32
_ODD = Factors(_F(1), _F(31), _F(2), np.zeros(0, _F))
_PARITY = np.array([bin(k).count("1") & 1 for k in range(128)], np.uint8) << 7


class Blocks(NamedTuple):
    """What n blocks hold.

    Attributes:
        scales: float16 [n].
        factors: uint8 [n, sub-blocks], 0 to 15.
        entries: uint16 [n, groups].
        signs: uint8 [n, 32]; bit k of a byte tells whether weight k of eight is negative.
    """

    scales: np.ndarray
    factors: np.ndarray
    entries: np.ndarray
    signs: np.ndarray


class Grid:
    """A type.

    Attributes:
        weights, bytes: of a block.
        size: weights of a sub-block.
        unit: what all weights are multiplied by.
        any_signs: whether eight signs are free; else an even number of them is negative.
    """

    weights = WEIGHTS
    bytes: int
    size = 32
    unit: float
    any_signs = False

    @classmethod
    @cache
    def grid(cls) -> np.ndarray:
        """float32 [entries, weights of a group], magnitudes."""
        source = getattr(gguf.quants, cls.__name__)
        source.init_grid()
        return np.ascontiguousarray(source.grid.reshape(source.grid.shape[-2:]), _F)

    @classmethod
    @cache
    def near(cls) -> np.ndarray:
        """int64 [entries, NEAR], the entries next to each."""
        grid = cls.grid().astype(np.float64)
        squares = (grid * grid).sum(1)
        far = squares[:, None] + squares - 2 * grid @ grid.T
        np.fill_diagonal(far, np.inf)
        return np.argsort(far, axis=1, kind="stable")[:, :NEAR]

    @classmethod
    def unpack(cls, raw: np.ndarray) -> Blocks:
        """What blocks hold, from their bytes, uint8 [n, bytes]."""
        raise NotImplementedError

    @classmethod
    def pack(cls, blocks: Blocks) -> np.ndarray:
        """The bytes of blocks, uint8 [n, bytes]."""
        raise NotImplementedError

    @classmethod
    def scale_bytes(cls, blocks: Blocks, out: np.ndarray) -> None:
        """Write the scales of blocks, which come first."""
        out[:, :2] = blocks.scales.astype("<f2")[:, None].view(np.uint8)

    @classmethod
    def units(cls, blocks: Blocks) -> np.ndarray:
        """What a magnitude of the grid is multiplied by, float32 [n, sub-blocks]."""
        products = blocks.scales.astype(_F)[:, None] * (2 * blocks.factors.astype(_F) + 1)
        return products * _F(cls.unit)

    @classmethod
    def signed(cls, blocks: Blocks) -> np.ndarray:
        """Signed magnitudes, float32 [n, 256]."""
        negative = np.unpackbits(blocks.signs, axis=1, bitorder="little")
        magnitudes = cls.grid()[blocks.entries].reshape(len(negative), WEIGHTS)
        return np.where(negative == 1, -magnitudes, magnitudes)

    @classmethod
    def dequantize(cls, raw: np.ndarray) -> np.ndarray:
        """The weights of blocks, float32 [n, 256], to the bit what ggml makes of them."""
        blocks = cls.unpack(raw)
        return np.repeat(cls.units(blocks), cls.size, axis=1) * cls.signed(blocks)


def _halves(raw: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(raw).view("<f2")[:, 0]


def _even(signs: np.ndarray) -> np.ndarray:
    """Eight signs of which seven are stored."""
    return signs | _PARITY[signs]


def _nibbles(raw: np.ndarray) -> np.ndarray:
    """Low and high nibbles in turn."""
    return np.stack([raw & 15, raw >> 4], axis=-1).reshape(len(raw), -1)


def _pairs(numbers: np.ndarray) -> np.ndarray:
    return numbers[:, ::2] | numbers[:, 1::2] << 4


def _signs_and_factors(raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of words of four times seven signs and a factor."""
    words = np.ascontiguousarray(raw).view("<u4")[..., None]
    signs = words >> np.arange(0, 28, 7, dtype=np.uint32) & 127
    factors = (words[..., 0] >> 28).astype(np.uint8)
    return _even(signs.reshape(len(raw), -1).astype(np.uint8)), factors


def _words(blocks: Blocks) -> np.ndarray:
    """The inverse, uint8 [n, 8, 4]."""
    signs = (blocks.signs & 127).reshape(len(blocks.signs), 8, 4).astype(np.uint32)
    words = np.bitwise_or.reduce(signs << np.arange(0, 28, 7, dtype=np.uint32), axis=2)
    words |= blocks.factors.astype(np.uint32) << 28
    return words.astype("<u4")[..., None].view(np.uint8)


class IQ2_XXS(Grid):
    bytes, unit = 66, 1 / 8

    @classmethod
    def unpack(cls, raw):
        words = raw[:, 2:].reshape(len(raw), 8, 8)
        signs, factors = _signs_and_factors(words[:, :, 4:].reshape(len(raw), 32))
        entries = words[:, :, :4].reshape(len(raw), 32).astype(np.uint16)
        return Blocks(_halves(raw[:, :2]), factors, entries, signs)

    @classmethod
    def pack(cls, blocks):
        out = np.empty((len(blocks.signs), cls.bytes), np.uint8)
        cls.scale_bytes(blocks, out)
        entries = blocks.entries.astype(np.uint8).reshape(-1, 8, 4)
        out[:, 2:] = np.concatenate([entries, _words(blocks)], axis=2).reshape(len(out), 64)
        return out


class IQ2_XS(Grid):
    bytes, size, unit = 74, 16, 1 / 8

    @classmethod
    def unpack(cls, raw):
        words = np.ascontiguousarray(raw[:, 2:66]).view("<u2")
        signs = _even((words >> 9).astype(np.uint8))
        return Blocks(_halves(raw[:, :2]), _nibbles(raw[:, 66:]), words & 511, signs)

    @classmethod
    def pack(cls, blocks):
        out = np.empty((len(blocks.signs), cls.bytes), np.uint8)
        cls.scale_bytes(blocks, out)
        words = blocks.entries | (blocks.signs & 127).astype(np.uint16) << 9
        out[:, 2:66] = words.astype("<u2").view(np.uint8)
        out[:, 66:] = _pairs(blocks.factors)
        return out


class IQ2_S(Grid):
    bytes, size, unit, any_signs = 82, 16, 1 / 8, True

    @classmethod
    def unpack(cls, raw):
        high = (raw[:, 66:74, None] >> np.arange(0, 8, 2, dtype=np.uint8) & 3).reshape(-1, 32)
        entries = raw[:, 2:34] | high.astype(np.uint16) << 8
        return Blocks(_halves(raw[:, :2]), _nibbles(raw[:, 74:]), entries, raw[:, 34:66])

    @classmethod
    def pack(cls, blocks):
        out = np.empty((len(blocks.signs), cls.bytes), np.uint8)
        cls.scale_bytes(blocks, out)
        out[:, 2:34], out[:, 34:66] = blocks.entries.astype(np.uint8), blocks.signs
        high = (blocks.entries >> 8).astype(np.uint8).reshape(-1, 8, 4)
        out[:, 66:74] = np.bitwise_or.reduce(high << np.arange(0, 8, 2, dtype=np.uint8), axis=2)
        out[:, 74:] = _pairs(blocks.factors)
        return out


class IQ3_XXS(Grid):
    bytes, unit = 98, 1 / 4

    @classmethod
    def unpack(cls, raw):
        signs, factors = _signs_and_factors(raw[:, 66:])
        return Blocks(_halves(raw[:, :2]), factors, raw[:, 2:66].astype(np.uint16), signs)

    @classmethod
    def pack(cls, blocks):
        out = np.empty((len(blocks.signs), cls.bytes), np.uint8)
        cls.scale_bytes(blocks, out)
        out[:, 2:66] = blocks.entries.astype(np.uint8)
        out[:, 66:] = _words(blocks).reshape(len(out), 32)
        return out


class IQ3_S(Grid):
    bytes, unit, any_signs = 110, 1, True

    @classmethod
    def unpack(cls, raw):
        high = np.unpackbits(raw[:, 66:74], axis=1, bitorder="little")
        entries = raw[:, 2:66] | high.astype(np.uint16) << 8
        return Blocks(_halves(raw[:, :2]), _nibbles(raw[:, 106:]), entries, raw[:, 74:106])

    @classmethod
    def pack(cls, blocks):
        out = np.empty((len(blocks.signs), cls.bytes), np.uint8)
        cls.scale_bytes(blocks, out)
        out[:, 2:66] = blocks.entries.astype(np.uint8)
        out[:, 66:74] = np.packbits(blocks.entries >> 8, axis=1, bitorder="little")
        out[:, 74:106], out[:, 106:] = blocks.signs, _pairs(blocks.factors)
        return out


GRIDS: dict[str, type[Grid]] = {
    grid.__name__: grid for grid in (IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S)
}


def improve(
    kind: str, raw: np.ndarray, values: np.ndarray, moment: np.ndarray, *, threads: int = 1
) -> np.ndarray:
    """Move what llama.cpp made of rows to where eᵀ H e is lower; it never rises.

    Args:
        kind: one of `GRIDS`.
        raw: uint8 [rows, bytes of a row].
        values: float32 [rows, columns].
        moment: float32 [columns, columns], H; or float32 [columns], its diagonal alone.

    Returns:
        uint8, as `raw`; it does not depend on the number of threads.

    Raises:
        QuernError: the shapes do not fit.
    """
    rows, columns = values.shape
    if columns % WEIGHTS or raw.size != rows * columns // WEIGHTS * GRIDS[kind].bytes:
        raise QuernError(f"rows of shape {values.shape} are no whole blocks of {kind}.")
    raw = raw.reshape(rows, -1, GRIDS[kind].bytes)
    # Where nothing joins them, blocks are looked at one at a time.
    panels = [slice(0, columns)]
    if moment.ndim == 1:
        panels = [slice(first, first + WEIGHTS) for first in range(0, columns, WEIGHTS)]
    out = np.empty_like(raw)

    def some(first):
        chunk = slice(first, first + _AT_ONCE)
        for own in panels:
            h = np.diag(moment[own]) if moment.ndim == 1 else moment
            blocks = slice(own.start // WEIGHTS, own.stop // WEIGHTS)
            part = np.ascontiguousarray(values[chunk, own], _F)
            out[chunk, blocks] = _improve(GRIDS[kind], raw[chunk, blocks], part, h)

    with blas.one_thread(), ThreadPoolExecutor(threads) as pool:
        list(pool.map(some, range(0, rows, _AT_ONCE)))
    return out.reshape(rows, -1)


def _improve(grid: type[Grid], raw, values, moment) -> np.ndarray:
    """Improve some rows, uint8 [rows, blocks, bytes]."""
    (rows, n), blocks = values.shape, grid.unpack(raw.reshape(-1, grid.bytes))
    scales = blocks.scales.astype(_F)
    factors = 2 * blocks.factors.astype(_F) + 1
    entries = blocks.entries.astype(np.int64).reshape(rows, -1)
    signed = grid.signed(blocks).reshape(rows, n)
    diagonal = np.ascontiguousarray(np.diag(moment))

    def spread():
        """What each signed magnitude is multiplied by."""
        products = scales[:, None] * factors * _F(grid.unit)
        return np.repeat(products, grid.size, axis=1).reshape(rows, n)

    a = spread()
    g = (values - a * signed) @ moment
    for turn in range(PASSES):
        arguments = grid.grid(), grid.near(), grid.any_signs
        moved = descend(g, a, *arguments, moment, diagonal, entries, signed)
        if moved.sum() * _FEW < n * rows or turn == PASSES - 1:
            break
        units = (scales * _F(grid.unit)).reshape(rows, -1)
        units = np.repeat(units, WEIGHTS // grid.size, axis=1)
        refit_all(g, a, None, signed, (units, units), _ODD, moment, grid.size)
        factors = _odd(a.reshape(len(scales), -1)[:, :: grid.size], scales * _F(grid.unit))
        # Then the scale of each block, for what its sub-blocks have.
        whole = np.repeat(factors * _F(grid.unit), grid.size, axis=1).reshape(rows, n)
        of_blocks = np.repeat(scales, WEIGHTS).reshape(rows, n)
        free = np.zeros((rows, n // WEIGHTS), _F)
        refit_all(g, of_blocks, None, signed * whole, (free, free), _ODD, moment, WEIGHTS)
        scales = of_blocks.reshape(-1, WEIGHTS)[:, 0]
        a = spread()
    signs = np.packbits(signed.reshape(-1, WEIGHTS) < 0, axis=1, bitorder="little")
    found = Blocks(
        scales.astype(np.float16),
        ((factors - 1) / 2).astype(np.uint8),
        entries.astype(np.uint16).reshape(len(scales), -1),
        signs,
    )
    return grid.pack(found).reshape(raw.shape)


def _odd(a: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Odd factors that give a from units."""
    units = units[:, None]
    return np.rint(np.divide(a, units, out=np.ones_like(a), where=units != 0))
