"""Structures of the types that have one code for each weight, a class each, with their searches.

All are seen in the same way: a block has a scale, perhaps a factor for each sub-block, and a code
for each weight, which is the number of a level, counted from the lowest. In some a sub-block (or a
block that has none) also has a minimum, by which its weights are lowered:

    weight = scale · factor · levels[code] - min_scale · min_factor

A structure says which search finds all this (`search`), which values near those found
`compensated` tries again when a block's turn comes (`candidates`), and what of them is stored.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from .. import QuernError
from . import feedback
from .block_type import COMPENSATED, IMPORTANCE, PROPOSALS, ROUNDINGS, BlockType, require_finite
from .kernels import compensation, joint, line, listed, offset, proposals, single
from .kernels.arguments import Codebook, FactorRule, FirstScales, Result, Weighing
from .kernels.codebooks import codebook_of
from .kernels.vectors import LANES
from .moment import factor

ROW = -1
_F = np.float32
_AT_ONCE = 1 << 20  # weights that one thread takes at once
_ALMOST = 1 - 1e-4  # of the scale at which clamping begins: no value is clamped yet


class ErrorWeights(NamedTuple):
    """How llama.cpp weighs the squared errors of a type (ggml/src/ggml-quants.c).

    With an imatrix, the weight is importance · √(σ² + x²), where σ² is `share` times the mean
    square of `span` weights (`ROW` for the row). Where `span` is 0, it is the importance. Without
    an imatrix, it is (|x| + multiple · rms) ** exponent, where rms is the root mean square of 32
    weights, and `bare` is (multiple, exponent). llama.cpp weighs so for the types that it searches;
    Q8_0, the ternary types and Q1_0 are weighed like Q4_0.
    """

    span: int = ROW
    share: float = 1.0
    bare: tuple[float, int] = (0, 0)


# Of the rounding `importance`, which does not look at x: the importance, or 1 without an imatrix.
_PLAIN = ErrorWeights(0)


class TriedScales(NamedTuple):
    """Which scales s `exact` tries first, if the largest value is 1.

    Attributes:
        shared: how many where no value is clamped.
        clamped: (how many, the largest) of those above. For tables, of all.
        begin: for tables only, the smallest.
    """

    shared: int = 0
    clamped: tuple[int, float] = (16, 0.0)
    begin: float = 0.0

    def of(self, levels: np.ndarray) -> FirstScales:
        """The scales for levels."""
        lowest, highest = float(levels[0]), float(levels[-1])
        count, end = self.clamped
        if self.begin:  # a table
            return FirstScales(np.zeros(0, _F), np.linspace(self.begin, end, count, dtype=_F), True)
        mirrored = lowest != -highest
        smallest = max((highest + mirrored) / 2 - 0.5, 0.5 / _ALMOST)
        clamping = highest + 0.5 if self.shared else smallest
        shared = np.linspace(smallest, clamping * _ALMOST, self.shared, dtype=_F)
        own = np.linspace(clamping, end, count + 1, dtype=_F)
        return FirstScales(shared, own[1:] if self.shared else own[:-1], mirrored)


class CodedBlocks(NamedTuple):
    """What n blocks hold.

    Attributes:
        scales: float16 [n].
        factors: int8 [n, sub-blocks], or None where the type has none.
        codes: uint8 [n, weights].
        min_scales, min_factors: as scales and factors, or None where there are no minima.
    """

    scales: np.ndarray
    factors: np.ndarray | None
    codes: np.ndarray
    min_scales: np.ndarray | None = None
    min_factors: np.ndarray | None = None


class CodedType(BlockType):
    """A type of one code a weight.

    Attributes:
        sub_blocks: how many factors a block has; 0 for none.
        size: weights of a sub-block, or of a block without.
        factor_range: the lowest and the highest factor, of minima too.
        levels: float32, increasing.
        used: those that codes are chosen from; all, where it is not said.
        error_weights: of all roundings but `importance`.
        candidates: one of the ways of `kernels.compensation`.
    """

    roundings = ("exact", IMPORTANCE, COMPENSATED)
    sub_blocks = 0
    size: int
    factor_range = (1, 1)
    levels: np.ndarray
    used: np.ndarray
    error_weights = ErrorWeights()
    candidates: int
    prepared = staticmethod(factor)

    def __init_subclass__(cls):
        super().__init_subclass__()
        if "levels" in vars(cls) and "used" not in vars(cls):
            cls.used = cls.levels
        if hasattr(cls, "weights"):
            cls.size = cls.weights // max(1, cls.sub_blocks)

    @classmethod
    def pack(cls, blocks: CodedBlocks) -> np.ndarray:
        """The bytes of blocks, uint8 [n, bytes]."""
        out = np.zeros((len(blocks.codes), cls.bytes), np.uint8)
        cls._write(blocks, out)
        return out

    @classmethod
    def unpack(cls, raw: np.ndarray) -> CodedBlocks:
        """What blocks hold, from their bytes, uint8 [n, bytes].

        Raises:
            QuernError: these are not whole blocks.
        """
        if raw.dtype != np.uint8 or raw.ndim != 2 or raw.shape[1] != cls.bytes:
            raise QuernError(f"bytes of shape {raw.shape} are no blocks of {cls.bytes} bytes.")
        return cls._read(np.ascontiguousarray(raw))

    @classmethod
    def dequantize(cls, raw):
        blocks = cls.unpack(raw)
        d = cls._products(blocks.scales, blocks.factors)
        with np.errstate(over="ignore"):
            values = d[..., None] * cls.levels[blocks.codes].reshape(*d.shape, -1)
        if blocks.min_scales is not None:
            values -= cls._products(blocks.min_scales, blocks.min_factors)[..., None]
        return values.reshape(blocks.codes.shape)

    @classmethod
    def rows_at_once(cls, columns):
        return max(1, _AT_ONCE // columns)

    @classmethod
    def round(cls, rows, how):
        require_finite(rows.values)
        weights = _PLAIN if how in (IMPORTANCE, COMPENSATED) else cls.error_weights
        multiple, exponent = weights.bare
        weighing = Weighing(
            rows.importances, weights.span, _F(weights.share), _F(multiple), exponent
        )
        found = cls._room(*rows.values.shape)
        cls.search(rows.values, weighing, how, found)
        return cls.pack(cls._blocks(found)).reshape(len(rows.values), -1)

    @classmethod
    def compensated(cls, rows, moment):
        return feedback.compensated(cls, rows.values, moment)

    @classmethod
    def search(cls, values: np.ndarray, weighing: Weighing, how: str, found: Result) -> None:
        """Find scales and codes of rows, float32 [rows, columns], in a way; see `kernels`."""
        raise NotImplementedError

    @classmethod
    def stored(cls, values: np.ndarray, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """What blocks store where their sub-blocks (or they) have these scales, or these minima.

        Args:
            values: float32 [n, sub-blocks, or 1].
            scales: float16 [n], which stay where there are factors.

        Returns:
            Scales and factors as in `CodedBlocks`.
        """
        if not cls.sub_blocks:
            return values[:, 0].astype(np.float16), None
        unit = scales.astype(_F)[:, None]
        factors = np.divide(values, unit, out=np.zeros_like(values), where=unit != 0)
        return scales, np.rint(factors).astype(np.int8)

    @classmethod
    @cache
    def codebook(cls) -> Codebook:
        """The levels in use."""
        return codebook_of(cls.used)

    @classmethod
    @cache
    def middles(cls) -> np.ndarray:
        """float32, half-way from each level in use to the next."""
        return (cls.used[1:] + cls.used[:-1]) / _F(2)

    @classmethod
    def factors(cls) -> compensation.Factors:
        """What scales of sub-blocks can be."""
        return compensation.Factors(*map(_F, (*cls.factor_range, 1)), np.zeros(0, _F))

    @classmethod
    def _room(cls, rows: int, columns: int) -> Result:
        """Arrays for what rounding finds."""
        shape = rows, columns // cls.weights
        sub_shape = rows, shape[1] * cls.sub_blocks
        return Result(
            scales=np.zeros(shape, _F),
            factors=np.zeros(sub_shape, np.int8),
            min_scales=np.zeros(shape, _F),
            min_factors=np.zeros(sub_shape, np.int8),
            codes=np.empty((rows, columns), np.uint8),
        )

    @classmethod
    def _blocks(cls, found: Result) -> CodedBlocks:
        """What was found, block by block. Codes count from the lowest level, used or not."""
        codes = found.codes.reshape(-1, cls.weights) + np.uint8(cls.used[0] - cls.levels[0])
        return CodedBlocks(*cls._of_blocks(found.scales, found.factors), codes)

    @classmethod
    def _of_blocks(cls, scales: np.ndarray, factors: np.ndarray):
        factors = factors.reshape(-1, cls.sub_blocks) if cls.sub_blocks else None
        return scales.ravel().astype(np.float16), factors

    @classmethod
    def _products(cls, scales: np.ndarray, factors: np.ndarray | None) -> np.ndarray:
        """Of scales and factors, float32 [n, sub-blocks]."""
        products = scales.astype(_F)[:, None]
        return products if factors is None else products * factors.astype(_F)

    @classmethod
    def _write(cls, blocks: CodedBlocks, out: np.ndarray) -> None:
        """Write the bytes of blocks into zeros, uint8 [n, bytes]."""
        raise NotImplementedError

    @classmethod
    def _read(cls, raw: np.ndarray) -> CodedBlocks:
        """The inverse."""
        raise NotImplementedError


class _FreeScales(CodedType):
    """A type without minima whose blocks' scales are free; all roundings are there for it.

    Attributes:
        tried: the scales that `exact` tries first.
        both_signs: whether `cumulative` tries scales of both signs.
        reach: how many factors are tried for each scale of the block, where there are factors.
        ratios: (first, spacing). 32 scales D of the block are tried: D = d / ratio, where d is the
            scale of the largest sub-block alone, and the ratios are first, first + spacing, and so
            on. A whole ratio is exactly the factor that this sub-block wants; where it is far
            larger than the others, little else counts.
    """

    roundings = ROUNDINGS
    tried = TriedScales()
    both_signs = False
    reach = 2
    ratios = (16.5, 0.5)

    @classmethod
    def search(cls, values, weighing, how, found):
        if how in PROPOSALS:
            arguments = cls._factor_rule(), how == "gradient", cls.both_signs
            proposals.round_rows(values, weighing, cls.codebook(), *arguments, found)
        else:
            cls._search(values, weighing, found)

    @classmethod
    def _search(cls, values: np.ndarray, weighing: Weighing, found: Result) -> None:
        """The least error there is."""
        raise NotImplementedError

    @classmethod
    @cache
    def _first_scales(cls) -> FirstScales:
        return cls.tried.of(cls.used)

    @classmethod
    @cache
    def _factor_rule(cls) -> FactorRule:
        first, spacing = cls.ratios
        ratios = (first + spacing * np.arange(2 * LANES)).astype(_F)
        return FactorRule(*map(_F, cls.factor_range), ratios, cls.reach)


class OneScale(_FreeScales):
    """A block has one scale."""

    candidates = compensation.ONE_SCALE

    @classmethod
    def _search(cls, values, weighing, found):
        single.round_rows(values, weighing, cls.codebook(), cls._first_scales(), found)


class ScaleAndFactors(_FreeScales):
    """A block has a scale, and an integer factor for each sub-block."""

    candidates = compensation.FACTORS

    @classmethod
    def _search(cls, values, weighing, found):
        arguments = cls.codebook(), cls._first_scales(), cls._factor_rule()
        joint.round_rows(values, weighing, *arguments, found)


class ListedScales(CodedType):
    """Each sub-block has a scale of its own, one of a list; the scale of the block is always 1.

    Attributes:
        steps: float32, increasing: the list, which factors number from the lowest on.
    """

    candidates = compensation.LISTED
    steps: np.ndarray

    @classmethod
    def search(cls, values, weighing, how, found):
        listed.round_rows(
            values, weighing, cls.used, cls.middles(), cls.steps, cls.factor_range[0], found
        )

    @classmethod
    def stored(cls, values, scales):
        found = np.searchsorted(cls.steps, values) + cls.factor_range[0]
        return scales, found.astype(np.int8)

    @classmethod
    def factors(cls):
        return super().factors()._replace(steps=cls.steps)

    @classmethod
    def _products(cls, scales, factors):
        return cls.steps[factors.astype(np.int64) - cls.factor_range[0]]


class _WithMinima(CodedType):
    """A type with minima."""

    @classmethod
    def _blocks(cls, found):
        minima = cls._of_blocks(found.min_scales, found.min_factors)
        return CodedBlocks(*super()._blocks(found)[:3], *minima)


class ScaleAndMinimum(_WithMinima):
    """A block has a scale and a minimum."""

    candidates = compensation.LINE

    @classmethod
    def search(cls, values, weighing, how, found):
        line.round_rows(values, weighing, cls.codebook().highest, found)


class FactorsAndMinima(_WithMinima):
    """A block has a scale of its factors and one of its minima, which are integers too."""

    candidates = compensation.MINIMA

    @classmethod
    def search(cls, values, weighing, how, found):
        most = _F(cls.factor_range[1])
        offset.round_rows(values, weighing, cls.codebook().highest, most, found)
