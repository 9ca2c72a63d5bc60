"""Types whose weights are looked up together: groups of them in a grid of magnitudes, with signs.

    weight = scale · (2 · factor + 1) · unit · sign · grid[entry]

llama.cpp finds entries, signs and scales by itself; here they are improved, by the importances or
by the whole second moment: every group may move to entries near its own and change signs, and
scales are refitted, each where that lowers eᵀ H e. Bytes are as in ggml/src/ggml-common.h; the
grids are those of the package gguf.
"""

from functools import cache
from typing import NamedTuple

import gguf.quants
import numpy as np

from .. import QuernError, blas
from .block_type import COMPENSATED, IMPORTANCE, BlockType, Rows, require_finite
from .kernels.compensation import Factors
from .kernels.grids import descend
from .packing import get_scales, in_turn, pair_in_turn, put_scales
from .refits import refit_all

NEAR = 16  # entries that a group may move to
PASSES = 6
WEIGHTS = 256  # of a block
_AT_ONCE = 96  # rows that a thread takes at once
_FEW = 1000  # A thousandth of the weights is next to nothing.
_F = np.float32
_ODD = Factors(_F(1), _F(31), _F(2), np.zeros(0, _F))
_PARITY = np.array([bin(k).count("1") & 1 for k in range(128)], np.uint8) << 7


class GridBlocks(NamedTuple):
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


class GridType(BlockType):
    """A type.

    Attributes:
        size: weights of a sub-block.
        unit: what all weights are multiplied by.
        any_signs: whether eight signs are free; else an even number of them is negative.
    """

    roundings = IMPORTANCE, COMPENSATED
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
    def unpack(cls, raw: np.ndarray) -> GridBlocks:
        """What blocks hold, from their bytes, uint8 [n, bytes]."""
        raise NotImplementedError

    @classmethod
    def pack(cls, blocks: GridBlocks) -> np.ndarray:
        """The bytes of blocks, uint8 [n, bytes]."""
        raise NotImplementedError

    @classmethod
    def units(cls, blocks: GridBlocks) -> np.ndarray:
        """What a magnitude of the grid is multiplied by, float32 [n, sub-blocks]."""
        products = blocks.scales.astype(_F)[:, None] * (2 * blocks.factors.astype(_F) + 1)
        return products * _F(cls.unit)

    @classmethod
    def signed(cls, blocks: GridBlocks) -> np.ndarray:
        """Signed magnitudes, float32 [n, 256]."""
        negative = np.unpackbits(blocks.signs, axis=1, bitorder="little")
        magnitudes = cls.grid()[blocks.entries].reshape(len(negative), WEIGHTS)
        return np.where(negative == 1, -magnitudes, magnitudes)

    @classmethod
    def dequantize(cls, raw):
        blocks = cls.unpack(raw)
        return np.repeat(cls.units(blocks), cls.size, axis=1) * cls.signed(blocks)

    @classmethod
    def rows(cls, values, importances, made):
        return Rows(values, importances, made())

    @classmethod
    def checked(cls, rows):
        rows = super().checked(rows)
        if rows.start is None:
            raise QuernError(
                f"{cls.__name__} is rounded from what llama.cpp made of it; give that."
            )
        if rows.start.size * cls.weights != rows.values.size * cls.bytes:
            raise QuernError(f"what llama.cpp made of rows of {cls.__name__} is of other rows.")
        return rows

    @classmethod
    def rows_at_once(cls, columns):
        return _AT_ONCE

    @classmethod
    def round(cls, rows, how):
        require_finite(rows.values)
        weights = rows.importances
        weights = weights if weights.any() else np.ones(rows.values.shape[1], _F)
        raw = rows.start.reshape(len(rows.values), -1, cls.bytes)
        out = np.empty_like(raw)
        for k in range(raw.shape[1]):  # Nothing joins blocks, so each is looked at alone.
            own = slice(k * WEIGHTS, (k + 1) * WEIGHTS)
            values = np.ascontiguousarray(rows.values[:, own])
            out[:, k : k + 1] = cls._improved(raw[:, k : k + 1], values, np.diag(weights[own]))
        return out.reshape(len(raw), -1)

    @staticmethod
    def prepared(shrunk):
        return shrunk

    @classmethod
    def compensated(cls, rows, moment):
        raw = rows.start.reshape(len(rows.values), -1, cls.bytes)
        return cls._improved(raw, rows.values, moment).reshape(len(raw), -1)

    @classmethod
    def _improved(cls, raw: np.ndarray, values: np.ndarray, moment: np.ndarray) -> np.ndarray:
        """What llama.cpp made of rows moved to where eᵀ H e is lower; it never rises.

        Args:
            raw: uint8 [rows, blocks, bytes].
            values: float32 [rows, columns].
            moment: float32 [columns, columns], H.

        Returns:
            uint8, as `raw`.
        """
        with blas.one_thread():
            return _improve(cls, raw, values, moment)


def _even(signs: np.ndarray) -> np.ndarray:
    """Eight signs of which seven are stored."""
    return signs | _PARITY[signs]


def _signs_and_factors(raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of words of four times seven signs and a factor."""
    words = np.ascontiguousarray(raw).view("<u4")[..., None]
    signs = words >> np.arange(0, 28, 7, dtype=np.uint32) & 127
    factors = (words[..., 0] >> 28).astype(np.uint8)
    return _even(signs.reshape(len(raw), -1).astype(np.uint8)), factors


def _words(blocks: GridBlocks) -> np.ndarray:
    """The inverse, uint8 [n, 8, 4]."""
    signs = (blocks.signs & 127).reshape(len(blocks.signs), 8, 4).astype(np.uint32)
    words = np.bitwise_or.reduce(signs << np.arange(0, 28, 7, dtype=np.uint32), axis=2)
    words |= blocks.factors.astype(np.uint32) << 28
    return words.astype("<u4")[..., None].view(np.uint8)


class IQ2_XXS(GridType):
    unit = 1 / 8

    @classmethod
    def unpack(cls, raw):
        words = raw[:, 2:].reshape(len(raw), 8, 8)
        signs, factors = _signs_and_factors(words[:, :, 4:].reshape(len(raw), 32))
        entries = words[:, :, :4].reshape(len(raw), 32).astype(np.uint16)
        return GridBlocks(get_scales(raw[:, :2]), factors, entries, signs)

    @classmethod
    def pack(cls, blocks):
        out = np.empty((len(blocks.signs), cls.bytes), np.uint8)
        put_scales(blocks.scales, out[:, :2])
        entries = blocks.entries.astype(np.uint8).reshape(-1, 8, 4)
        out[:, 2:] = np.concatenate([entries, _words(blocks)], axis=2).reshape(len(out), 64)
        return out


class IQ2_XS(GridType):
    size, unit = 16, 1 / 8

    @classmethod
    def unpack(cls, raw):
        words = np.ascontiguousarray(raw[:, 2:66]).view("<u2")
        signs = _even((words >> 9).astype(np.uint8))
        return GridBlocks(get_scales(raw[:, :2]), in_turn(raw[:, 66:]), words & 511, signs)

    @classmethod
    def pack(cls, blocks):
        out = np.empty((len(blocks.signs), cls.bytes), np.uint8)
        put_scales(blocks.scales, out[:, :2])
        words = blocks.entries | (blocks.signs & 127).astype(np.uint16) << 9
        out[:, 2:66] = words.astype("<u2").view(np.uint8)
        out[:, 66:] = pair_in_turn(blocks.factors)
        return out


class IQ2_S(GridType):
    size, unit, any_signs = 16, 1 / 8, True

    @classmethod
    def unpack(cls, raw):
        high = (raw[:, 66:74, None] >> np.arange(0, 8, 2, dtype=np.uint8) & 3).reshape(-1, 32)
        entries = raw[:, 2:34] | high.astype(np.uint16) << 8
        return GridBlocks(get_scales(raw[:, :2]), in_turn(raw[:, 74:]), entries, raw[:, 34:66])

    @classmethod
    def pack(cls, blocks):
        out = np.empty((len(blocks.signs), cls.bytes), np.uint8)
        put_scales(blocks.scales, out[:, :2])
        out[:, 2:34], out[:, 34:66] = blocks.entries.astype(np.uint8), blocks.signs
        high = (blocks.entries >> 8).astype(np.uint8).reshape(-1, 8, 4)
        out[:, 66:74] = np.bitwise_or.reduce(high << np.arange(0, 8, 2, dtype=np.uint8), axis=2)
        out[:, 74:] = pair_in_turn(blocks.factors)
        return out


class IQ3_XXS(GridType):
    unit = 1 / 4

    @classmethod
    def unpack(cls, raw):
        signs, factors = _signs_and_factors(raw[:, 66:])
        return GridBlocks(get_scales(raw[:, :2]), factors, raw[:, 2:66].astype(np.uint16), signs)

    @classmethod
    def pack(cls, blocks):
        out = np.empty((len(blocks.signs), cls.bytes), np.uint8)
        put_scales(blocks.scales, out[:, :2])
        out[:, 2:66] = blocks.entries.astype(np.uint8)
        out[:, 66:] = _words(blocks).reshape(len(out), 32)
        return out


class IQ3_S(GridType):
    unit, any_signs = 1, True

    @classmethod
    def unpack(cls, raw):
        high = np.unpackbits(raw[:, 66:74], axis=1, bitorder="little")
        entries = raw[:, 2:66] | high.astype(np.uint16) << 8
        return GridBlocks(get_scales(raw[:, :2]), in_turn(raw[:, 106:]), entries, raw[:, 74:106])

    @classmethod
    def pack(cls, blocks):
        out = np.empty((len(blocks.signs), cls.bytes), np.uint8)
        put_scales(blocks.scales, out[:, :2])
        out[:, 2:66] = blocks.entries.astype(np.uint8)
        out[:, 66:74] = np.packbits(blocks.entries >> 8, axis=1, bitorder="little")
        out[:, 74:106], out[:, 106:] = blocks.signs, pair_in_turn(blocks.factors)
        return out


GRIDS: dict[str, type[GridType]] = {
    kind.__name__: kind for kind in (IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S)
}


def _improve(grid: type[GridType], raw, values, moment) -> np.ndarray:
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
    found = GridBlocks(
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
