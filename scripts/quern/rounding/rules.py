"""Rules of rounding, a line for each type: how its blocks are weighed and searched."""

from dataclasses import dataclass

import numpy as np

from .grids import GRIDS
from .kernels.arguments import Grid
from .layouts import LAYOUTS

PROPOSALS = ("cumulative", "gradient")
IMPORTANCE, COMPENSATED = "importance", "compensated"
ROUNDINGS = (*PROPOSALS, "exact", IMPORTANCE, COMPENSATED)
ROW = -1
_F = np.float32
_ALMOST = 1 - 1e-4  # of the scale at which clamping begins: no value is clamped yet


@dataclass(frozen=True)
class Rule:
    """How a type's blocks are weighed and searched.

    With an imatrix, the weight of a squared error is importance · √(σ² + x²), where σ² is `share`
    times the mean square of `span` weights (`ROW` for the row). Where `span` is 0, it is the
    importance. Without an imatrix, it is (|x| + multiple · rms) ** exponent, where rms is the root
    mean square of 32 weights, and `bare` is (multiple, exponent). llama.cpp weighs so for the types
    that it searches (ggml/src/ggml-quants.c); Q8_0 and the ternary types are weighed like Q4_0. The
    rounding `importance` does not look at x: the weight is the importance, or 1 without an imatrix.

    The other fields are for `exact`, except `both_signs`, which is for `cumulative`. Types with
    minima need none of them.

    Attributes:
        shared: how many scales s are tried first where no value is clamped.
        clamped: (how many, the largest) of the scales that are tried first above those, if the
            largest value is 1. For tables, of all scales that are tried first.
        begin: for tables only, the smallest scale that is tried.
        reach: for types with factors: how many factors are tried for each scale of the block.
        ratios: (first, spacing), for types with factors. 32 scales D of the block are tried:
            D = d / ratio, where d is the scale of the largest sub-block alone, and the ratios are
            first, first + spacing, and so on. A whole ratio is exactly the factor that this
            sub-block wants; where it is far larger than the others, little else counts.
        both_signs: whether scales of both signs are tried.
    """

    span: int = ROW
    share: float = 1.0
    bare: tuple[float, int] = (0, 0)
    shared: int = 0
    clamped: tuple[int, float] = (16, 0.0)
    begin: float = 0.0
    reach: int = 2
    ratios: tuple[float, float] = (16.5, 0.5)
    both_signs: bool = False


RULES = {
    "Q4_0": Rule(shared=16, clamped=(16, 11)),
    "Q5_0": Rule(shared=16, clamped=(16, 19)),
    "Q8_0": Rule(shared=160, clamped=(16, 150)),
    "Q4_1": Rule(),
    "Q5_1": Rule(),
    "MXFP4": Rule(),
    "NVFP4": Rule(),
    "Q2_K": Rule(256, 1, (0, 1)),
    "Q3_K": Rule(256, 2, (0, 2), shared=16, clamped=(16, 9), both_signs=True),
    "Q4_K": Rule(256, 2, (1, 1)),
    "Q5_K": Rule(256, 2, (1, 1)),
    "Q6_K": Rule(0, 0, (0, 2), shared=32, clamped=(16, 40), reach=3, ratios=(100, 1)),
    "IQ4_NL": Rule(32, 2, (0, 2), begin=4, clamped=(48, 180), both_signs=True),
    "IQ4_XS": Rule(256, 2, (0, 2), begin=56, clamped=(32, 180), both_signs=True),
    "TQ1_0": Rule(clamped=(32, 6)),
    "TQ2_0": Rule(clamped=(32, 6)),
}


def covers(rounding: str, kind: str) -> bool:
    """Whether a rounding exists for a type.

    The proposals only treat scales that are free; grids are improved by importances or moments.
    """
    if kind in GRIDS:
        return rounding in (IMPORTANCE, COMPENSATED)
    is_free = kind in RULES and not LAYOUTS[kind].minima and LAYOUTS[kind].steps is None
    return is_free if rounding in PROPOSALS else kind in RULES


def used_levels(kind: str) -> np.ndarray:
    """The levels that codes are chosen from, float32; of Q8_0, as in ggml, not -128."""
    levels = LAYOUTS[kind].levels
    return levels[levels >= -127]


def first_grid(kind: str) -> Grid:
    """The scales that `exact` tries first."""
    levels, rule = used_levels(kind), RULES[kind]
    lowest, highest = float(levels[0]), float(levels[-1])
    count, end = rule.clamped
    if rule.begin:  # a table
        return Grid(np.zeros(0, _F), np.linspace(rule.begin, end, count, dtype=_F), True)
    mirrored = lowest != -highest
    smallest = max((highest + mirrored) / 2 - 0.5, 0.5 / _ALMOST)
    clamping = highest + 0.5 if rule.shared else smallest
    shared = np.linspace(smallest, clamping * _ALMOST, rule.shared, dtype=_F)
    own = np.linspace(clamping, end, count + 1, dtype=_F)
    return Grid(shared, own[1:] if rule.shared else own[:-1], mirrored)
