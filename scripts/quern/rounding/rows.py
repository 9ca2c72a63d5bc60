"""Rounding of whole rows: the weights of a tensor become the bytes of its type."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from .. import QuernError
from .kernels import joint, offset, proposals, single
from .kernels.lanes import cells_of, codes_of
from .kernels.vectors import LANES
from .layouts import LAYOUTS, Blocks
from .rules import NONE, PROPOSALS, ROUNDINGS, RULES, bounds, covers, first_grid, is_table

_F = np.float32
_TOGETHER = 1 << 20  # weights that one thread takes at once


def round_rows(
    kind: str,
    rounding: str,
    values: np.ndarray,
    importances: np.ndarray | None = None,
    *,
    threads: int = 1,
) -> np.ndarray:
    """Quantize rows to a type; the result does not depend on the number of threads.

    Args:
        kind, rounding: of `RULES` and `ROUNDINGS`, such that the one `covers` the other.
        values: float32 [rows, columns].
        importances: float32 [columns], weights of the squared errors; None for none.

    Returns:
        The rows' bytes as ggml lays them out, uint8 [rows, bytes of a row].

    Raises:
        QuernError: the type or rounding is unknown, the shapes do not fit, or a value or importance
            is not finite or an importance is negative.
    """
    if rounding not in ROUNDINGS or not covers(rounding, kind):
        known = "; ".join(
            f"{name} for {', '.join(k for k in RULES if covers(name, k))}" for name in ROUNDINGS
        )
        raise QuernError(f"there is no rounding {rounding} for {kind}; there are {known}.")
    layout = LAYOUTS[kind]
    values = np.ascontiguousarray(values, _F)
    if values.ndim != 2 or values.size == 0 or values.shape[1] % layout.weights:
        raise QuernError(f"rows of shape {values.shape} are no whole blocks of {kind}.")
    importances = NONE[0] if importances is None else np.ascontiguousarray(importances, _F)
    if importances.size and importances.shape != values.shape[1:]:
        raise QuernError(
            f"{importances.size} importances do not fit rows of {values.shape[1]} weights."
        )
    if not (np.isfinite(importances) & (importances >= 0)).all():
        raise QuernError("an importance is negative or not finite.")
    if importances.any():  # only their ratios count
        importances = (importances / np.float64(importances.max())).astype(_F)
    rows, columns = values.shape
    out = np.empty((rows, columns // layout.weights * layout.bytes), np.uint8)
    step = max(1, _TOGETHER // columns)

    def work(first):
        part = slice(first, first + step)
        if not np.isfinite(values[part]).all():
            raise QuernError("a weight is not finite.")
        out[part] = _round(kind, rounding, values[part], importances)

    firsts = range(0, rows, step)
    if threads == 1 or len(firsts) == 1:
        for first in firsts:
            work(first)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, firsts))
    return out


def _round(kind, rounding, values, importances) -> np.ndarray:
    """Round some rows; the bytes, uint8 [rows, bytes of a row]."""
    layout, rule = LAYOUTS[kind], RULES[kind]
    if rounding == "importance":
        rule = replace(rule, span=0, bare=(0, 0))
    rows, columns = values.shape
    blocks = columns // layout.weights
    lowest, highest = bounds(kind)
    table = is_table(layout.levels)
    cells, below = (cells_of(layout.levels), codes_of(layout.levels)) if table else NONE
    levels = lowest, highest, cells
    weighing = importances, rule.span, _F(rule.share), (_F(rule.bare[0]), rule.bare[1])
    scales = np.empty((rows, blocks), _F)
    factors = np.zeros((rows, blocks * layout.sub_blocks), np.int8)
    codes = np.empty((rows, columns), np.uint8)
    size = layout.weights // max(1, layout.sub_blocks)
    outputs = scales, factors, codes
    min_scales, min_factors = np.empty_like(scales), np.empty_like(factors)
    if layout.minima:
        offset.round_rows(
            values, *weighing, size, highest, _F(layout.factors[1]),
            scales, factors, min_scales, min_factors, codes,
        )  # fmt: skip
    elif rounding in PROPOSALS:
        gradient = rounding == "gradient"
        proposals.round_rows(
            values, *weighing, size, levels, below, layout.levels[-int(highest - lowest) - 1 :],
            gradient, rule.both_signs, layout.factors, *outputs,
        )  # fmt: skip
    elif layout.sub_blocks:
        ends = (rule.ends[0] + rule.ends[1] * np.arange(2 * LANES)).astype(_F)
        joint.round_rows(
            values, *weighing, size, levels, below, first_grid(kind),
            ends, rule.reach, layout.factors, *outputs,
        )  # fmt: skip
    else:
        single.round_rows(values, *weighing, size, levels, below, first_grid(kind), scales, codes)
    codes += np.uint8(lowest - layout.levels[0])

    def of_blocks(scales, factors):
        factors = factors.reshape(-1, layout.sub_blocks) if layout.sub_blocks else None
        return scales.ravel().astype(np.float16), factors

    minima = of_blocks(min_scales, min_factors) if layout.minima else ()
    blocks = Blocks(*of_blocks(scales, factors), codes.reshape(-1, layout.weights), *minima)
    return layout.pack(blocks).reshape(rows, -1)
