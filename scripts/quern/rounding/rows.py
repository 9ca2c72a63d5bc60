"""Rounding: codes and scales for the weights of a tensor, its type being decided.

`round_rows` is what the rest of Quern calls; `RULES` has a line for each type. The kernels lie
beside: `exact` (the best scale of a block), `single`, `joint` and `offset` (types with one scale,
with factors for sub-blocks, and with minima too), `cumulative` and `gradient` (two proposals from
the field, carried out by `proposals`), `blocks` (what they share). Vector instructions are written
by hand in `lanes` and `offset_lanes`, by means of `vectors`.
"""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .. import QuernError
from ..block_layouts import LAYOUTS, Blocks


def _drop_stale_kernels() -> None:
    """Delete compiled kernels that are older than any source they may be made of.

    numba looks at the file of the compiled function alone, not at what that calls.
    """
    folder = Path(__file__).parent
    sources = [*folder.glob("*.py"), folder.parent / "kernels.py"]
    newest = max(path.stat().st_mtime for path in sources)
    for index in (folder / "__pycache__").glob("*.nbi"):
        with contextlib.suppress(OSError):
            if index.stat().st_mtime < newest:
                index.unlink()


_drop_stale_kernels()

from . import joint, offset, proposals, single
from .lanes import cells_of, codes_of
from .vectors import LANES

PROPOSALS = ("cumulative", "gradient")
ROUNDINGS = (*PROPOSALS, "exact", "importance")
ROW = -1
_F = np.float32
_NONE = np.zeros(0, np.float32), np.zeros(0, np.int64)
_ALMOST = 1 - 1e-4  # a scale at which nothing is clamped yet
_TOGETHER = 1 << 20  # weights that one thread takes at once


@dataclass(frozen=True)
class Rule:
    """How a type's blocks are weighed and searched.

    With an imatrix, a squared error's weight is importance · √(σ² + x²), where σ² is `share` times
    the mean square of `span` weights (`ROW` for the row), or the plain importance where `span` is
    0. Without, it is a power of |x| plus a multiple of the root mean square of 32 weights, `bare`
    being (multiple, power). That is llama.cpp's choice for the types that it searches
    (ggml/src/ggml-quants.c); Q8_0 and the ternary types follow Q4_0. The rounding `importance`
    leaves the values out of it: the weight is the importance, or 1 without an imatrix.

    The rest is for `exact` and `cumulative`; types with minima need none of it.

    Attributes:
        shared: how many scales are tried first where nothing is clamped.
        clamped: how many above, and how far up, in levels. For tables, which are not searched
            below `begin`, all.
        reach, ends: for types with factors: how many factors are tried for each of the 32 scales
            of the block, and what factor the largest sub-block has for the first of these scales,
            and by how much more for each that follows. (Whole factors, so that it gets what it
            wants: where it is far larger than the others, little else counts.)
        both_signs: whether `cumulative` tries scales of both signs.
    """

    span: int = ROW
    share: float = 1.0
    bare: tuple[float, int] = (0, 0)
    shared: int = 0
    clamped: tuple[int, float] = (16, 0.0)
    begin: float = 0.0
    reach: int = 2
    ends: tuple[float, float] = (16.5, 0.5)
    both_signs: bool = False


RULES = {
    "Q4_0": Rule(shared=16, clamped=(16, 11)),
    "Q5_0": Rule(shared=16, clamped=(16, 19)),
    "Q8_0": Rule(shared=160, clamped=(16, 150)),
    "Q2_K": Rule(256, 1, (0, 1)),
    "Q3_K": Rule(256, 2, (0, 2), shared=16, clamped=(16, 9), both_signs=True),
    "Q4_K": Rule(256, 2, (1, 1)),
    "Q5_K": Rule(256, 2, (1, 1)),
    "Q6_K": Rule(0, 0, (0, 2), shared=32, clamped=(16, 40), reach=3, ends=(100, 1)),
    "IQ4_NL": Rule(32, 2, (0, 2), begin=4, clamped=(48, 180), both_signs=True),
    "IQ4_XS": Rule(256, 2, (0, 2), begin=56, clamped=(32, 180), both_signs=True),
    "TQ1_0": Rule(clamped=(32, 6)),
    "TQ2_0": Rule(clamped=(32, 6)),
}


def covers(rounding: str, kind: str) -> bool:
    """Whether a type can be rounded so; the proposals say nothing of types with minima."""
    return kind in RULES and not (rounding in PROPOSALS and LAYOUTS[kind].minima)


def _is_table(levels: np.ndarray) -> bool:
    return bool((np.diff(levels) != 1).any())


def _bounds(kind: str) -> tuple[np.float32, np.float32]:
    """The lowest and the highest level that are used; of Q8_0, as in ggml, not -128."""
    levels = LAYOUTS[kind].levels
    return _F(max(levels[0], -127)), _F(levels[-1])


def _first_grid(kind: str) -> tuple[np.ndarray, np.ndarray, bool]:
    """Scales to begin with, for values whose largest is 1; see `exact.workspace`."""
    lowest, highest = map(float, _bounds(kind))
    rule = RULES[kind]
    count, end = rule.clamped
    if _is_table(LAYOUTS[kind].levels):
        return _NONE[0], np.linspace(rule.begin, end, count, dtype=_F), True
    mirrored = lowest != -highest
    half = max((highest + mirrored) / 2 - 0.5, 0.5 / _ALMOST)
    free = highest + 0.5 if rule.shared else half
    shared = np.linspace(half, free * _ALMOST, rule.shared, dtype=_F)
    own = np.linspace(free, end, count + 1, dtype=_F)
    return shared, own[1:] if rule.shared else own[:-1], mirrored


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
    importances = _NONE[0] if importances is None else np.ascontiguousarray(importances, _F)
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
    lowest, highest = _bounds(kind)
    table = _is_table(layout.levels)
    cells, below = (cells_of(layout.levels), codes_of(layout.levels)) if table else _NONE
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
            values, *weighing, size, levels, below, _first_grid(kind),
            ends, rule.reach, layout.factors, *outputs,
        )  # fmt: skip
    else:
        single.round_rows(values, *weighing, size, levels, below, _first_grid(kind), scales, codes)
    codes += np.uint8(lowest - layout.levels[0])

    def of_blocks(scales, factors):
        factors = factors.reshape(-1, layout.sub_blocks) if layout.sub_blocks else None
        return scales.ravel().astype(np.float16), factors

    minima = of_blocks(min_scales, min_factors) if layout.minima else ()
    blocks = Blocks(*of_blocks(scales, factors), codes.reshape(-1, layout.weights), *minima)
    return layout.pack(blocks).reshape(rows, -1)
