"""Rules of rounding, a line for each type: how its blocks are weighed and searched."""

from dataclasses import dataclass

import numpy as np

from .layouts import LAYOUTS

PROPOSALS = ("cumulative", "gradient")
ROUNDINGS = (*PROPOSALS, "exact", "importance")
ROW = -1
_F = np.float32
NONE = np.zeros(0, np.float32), np.zeros(0, np.int64)
_ALMOST = 1 - 1e-4  # a scale at which nothing is clamped yet


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


def is_table(levels: np.ndarray) -> bool:
    return bool((np.diff(levels) != 1).any())


def bounds(kind: str) -> tuple[np.float32, np.float32]:
    """The lowest and the highest level that are used; of Q8_0, as in ggml, not -128."""
    levels = LAYOUTS[kind].levels
    return _F(max(levels[0], -127)), _F(levels[-1])


def first_grid(kind: str) -> tuple[np.ndarray, np.ndarray, bool]:
    """Scales to begin with, for values whose largest is 1; see `exact.workspace`."""
    lowest, highest = map(float, bounds(kind))
    rule = RULES[kind]
    count, end = rule.clamped
    if is_table(LAYOUTS[kind].levels):
        return NONE[0], np.linspace(rule.begin, end, count, dtype=_F), True
    mirrored = lowest != -highest
    half = max((highest + mirrored) / 2 - 0.5, 0.5 / _ALMOST)
    free = highest + 0.5 if rule.shared else half
    shared = np.linspace(half, free * _ALMOST, rule.shared, dtype=_F)
    own = np.linspace(free, end, count + 1, dtype=_F)
    return shared, own[1:] if rule.shared else own[:-1], mirrored
