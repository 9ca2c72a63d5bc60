"""Rounding of whole rows: the weights of a tensor become the bytes of its type."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from .. import QuernError
from .grids import GRIDS, improve
from .kernels import joint, line, listed, offset, proposals, single
from .kernels.arguments import FactorRule, Result, Weighing
from .kernels.codebooks import codebook_of
from .kernels.vectors import LANES
from .layouts import LAYOUTS, Blocks
from .rules import COMPENSATED, PROPOSALS, ROUNDINGS, RULES, covers, first_grid, used_levels

_F = np.float32
_AT_ONCE = 1 << 20  # weights that one thread takes at once


def round_rows(
    kind: str,
    rounding: str,
    values: np.ndarray,
    importances: np.ndarray | None = None,
    *,
    start: np.ndarray | None = None,
    threads: int = 1,
) -> np.ndarray:
    """Quantize rows to a type; the result does not depend on the number of threads.

    Args:
        kind: one of `RULES` or `GRIDS`.
        rounding: one of `ROUNDINGS`; it must cover the kind.
        values: float32 [rows, columns].
        importances: float32 [columns], weights of the squared errors; None for none.
        start: for types of `GRIDS`, the bytes that llama.cpp made of the rows.

    Returns:
        The rows' bytes as ggml lays them out, uint8 [rows, bytes of a row].

    Raises:
        QuernError: the type or rounding is unknown, the shapes do not fit, or a value or importance
            is not finite or an importance is negative.
    """
    if rounding not in ROUNDINGS or not covers(rounding, kind):
        known = "; ".join(
            f"{name} for {', '.join(k for k in (*RULES, *GRIDS) if covers(name, k))}"
            for name in ROUNDINGS
        )
        raise QuernError(f"there is no rounding {rounding} for {kind}; there are {known}.")
    layout = GRIDS.get(kind) or LAYOUTS[kind]
    values = np.ascontiguousarray(values, _F)
    if values.ndim != 2 or values.size == 0 or values.shape[1] % layout.weights:
        raise QuernError(f"rows of shape {values.shape} are no whole blocks of {kind}.")
    if importances is None:
        importances = np.zeros(0, _F)
    importances = np.ascontiguousarray(importances, _F)
    if importances.size and importances.shape != values.shape[1:]:
        raise QuernError(
            f"{importances.size} importances do not fit rows of {values.shape[1]} weights."
        )
    if not (np.isfinite(importances) & (importances >= 0)).all():
        raise QuernError("an importance is negative or not finite.")
    if importances.any():  # only their ratios count
        importances = (importances / np.float64(importances.max())).astype(_F)
    rows, columns = values.shape
    if kind in GRIDS:
        if start is None:
            raise QuernError(f"{kind} is rounded from what llama.cpp made of it; give that.")
        if not np.isfinite(values).all():
            raise QuernError("a weight is not finite.")
        weights = importances if importances.any() else np.ones(columns, _F)
        return improve(kind, start, values, weights, threads=threads)
    out = np.empty((rows, columns // layout.weights * layout.bytes), np.uint8)
    at_once = max(1, _AT_ONCE // columns)

    def work(first):
        some = slice(first, first + at_once)
        if not np.isfinite(values[some]).all():
            raise QuernError("a weight is not finite.")
        out[some] = _round(kind, rounding, values[some], importances)

    firsts = range(0, rows, at_once)
    if threads == 1 or len(firsts) == 1:
        for first in firsts:
            work(first)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, firsts))
    return out


def dequantize_rows(kind: str, raw: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The weights of rows from their bytes, float32 of this shape."""
    layout = GRIDS.get(kind) or LAYOUTS[kind]
    return layout.dequantize(raw.reshape(-1, layout.bytes)).reshape(shape)


def _round(kind, rounding, values, importances) -> np.ndarray:
    """Round some rows; the bytes, uint8 [rows, bytes of a row]."""
    layout, rule = LAYOUTS[kind], RULES[kind]
    if rounding in ("importance", COMPENSATED):  # the latter where there is no moment
        rule = replace(rule, span=0, bare=(0, 0))
    multiple, exponent = rule.bare
    weighing = Weighing(importances, rule.span, _F(rule.share), _F(multiple), exponent)
    levels, result = used_levels(kind), _room(layout, *values.shape)
    if layout.steps is not None:
        listed.round_rows(values, weighing, levels, layout.steps, layout.factor_range[0], result)
        return _packed(layout, result, levels[0])
    codebook = codebook_of(levels)
    if layout.minima and not layout.sub_blocks:
        line.round_rows(values, weighing, codebook.highest, result)
    elif layout.minima:
        most = _F(layout.factor_range[1])
        offset.round_rows(values, weighing, codebook.highest, most, result)
    elif rounding in PROPOSALS:
        by_gradient = rounding == "gradient"
        factor_rule, both_signs = _factor_rule(layout, rule), rule.both_signs
        proposals.round_rows(
            values, weighing, codebook, factor_rule, by_gradient, both_signs, result
        )
    elif layout.sub_blocks:
        factor_rule = _factor_rule(layout, rule)
        joint.round_rows(values, weighing, codebook, first_grid(kind), factor_rule, result)
    else:
        single.round_rows(values, weighing, codebook, first_grid(kind), result)
    return _packed(layout, result, codebook.lowest)


def _factor_rule(layout, rule) -> FactorRule:
    first, spacing = rule.ratios
    ratios = (first + spacing * np.arange(2 * LANES)).astype(_F)
    lowest, highest = layout.factor_range
    return FactorRule(_F(lowest), _F(highest), ratios, rule.reach)


def _room(layout, rows, columns) -> Result:
    """Arrays for what rounding finds."""
    shape = rows, columns // layout.weights
    sub_shape = rows, shape[1] * layout.sub_blocks
    return Result(
        scales=np.zeros(shape, _F),
        factors=np.zeros(sub_shape, np.int8),
        min_scales=np.zeros(shape, _F),
        min_factors=np.zeros(sub_shape, np.int8),
        codes=np.empty((rows, columns), np.uint8),
    )


def _packed(layout, result, lowest) -> np.ndarray:
    """The rows' bytes. Codes of blocks count from the type's lowest level, used or not."""

    def of_blocks(scales, factors):
        factors = factors.reshape(-1, layout.sub_blocks) if layout.sub_blocks else None
        return scales.ravel().astype(np.float16), factors

    codes = result.codes.reshape(-1, layout.weights) + np.uint8(lowest - layout.levels[0])
    minima = of_blocks(result.min_scales, result.min_factors) if layout.minima else ()
    blocks = Blocks(*of_blocks(result.scales, result.factors), codes, *minima)
    return layout.pack(blocks).reshape(len(result.scales), -1)
