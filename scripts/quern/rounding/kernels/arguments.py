"""What the compiled functions take: arrays and numbers that belong together, as named tuples.

Throughout: a *level* is a value that a type can hold before it is multiplied by a scale, and a
*code* is the number of a level, counted from 0. d is a scale, and s = 1/d. x are values, w the
weights of their squared errors, q levels.
"""

from typing import NamedTuple

import numpy as np


class Weighing(NamedTuple):
    """How the squared errors of a row are weighed.

    With importances, the weight of a value x is importance · √(σ² + x²), where σ² is `share` times
    the mean square of `span` values; where `span` is 0, it is the importance.
    Without, it is (|x| + multiple · rms) ** exponent, where rms is the root mean square of
    `blocks.RMS` values.

    Attributes:
        importances: float32 [columns], or empty for none.
        span: integer; -1 for the whole row.
        share, multiple: float32.
        exponent: 0, 1 or 2.
    """

    importances: np.ndarray
    span: int
    share: np.float32
    multiple: np.float32
    exponent: int


class Codebook(NamedTuple):
    """The levels of a type. `codebooks.codebook_of` makes it from them.

    Attributes:
        levels: float32 [n], increasing; code k stands for levels[k].
        lowest, highest: float32, the first and the last level.
        cells: float32 [2 · 3 · 16], by which the nearest level of a table is found (see
            `codebooks`); empty where the levels are all integers from lowest to highest.
        cell_codes: int64 [2 · 16]; empty with `cells`.
    """

    levels: np.ndarray
    lowest: np.float32
    highest: np.float32
    cells: np.ndarray
    cell_codes: np.ndarray


class FirstScales(NamedTuple):
    """The scales s that `exact` tries first, for values whose largest magnitude is 1.

    Attributes:
        shared: float32 [16 · k], increasing; no value is clamped at these.
        own: float32 [16 · k], increasing, above `shared`.
        mirrored: whether -s has other codes than s for s in `own`, so that both are tried. For s in
            `shared`, both have the same.
    """

    shared: np.ndarray
    own: np.ndarray
    mirrored: bool


class BlockPart(NamedTuple):
    """The values of a block or of a sub-block, ready for a search; `blocks.load` fills it.

    From `start` on, x holds `size` values, and then the same values negated; w holds their weights
    twice. The values as they are are *side* 0, the negated ones are side 1.

    Attributes:
        x, w: float32 [≥ start + 2 · size].
        start, size: integers.
    """

    x: np.ndarray
    w: np.ndarray
    start: int
    size: int


class Workspace(NamedTuple):
    """Arrays that the search of `exact` works in; `exact.workspace` makes them.

    Attributes:
        points: float32 [5, 2048]: a column for each scale of the grid. `lanes` names the rows.
            Scales for side 1 begin at column 1024.
        inner: float32 [5, 32]: the same for 16 scales inside an interval and its two ends.
        waiting: float32 [8, 1024]: a column for each interval that waits. Rows are s, Σ w·r·x and
            Σ w·r² of its first end, the same of its second, its side, and its bound.
    """

    points: np.ndarray
    inner: np.ndarray
    waiting: np.ndarray


class FactorRule(NamedTuple):
    """The factors of sub-blocks, and how they are searched.

    Attributes:
        lowest, highest: float32, the factors that the type can store.
        ratios: float32 [16 · k]. `joint` tries the block scales D = d / ratio, where d is the own
            scale of the largest sub-block.
        reach: integer, how many factors `joint` tries for each sub-block and D.
    """

    lowest: np.float32
    highest: np.float32
    ratios: np.ndarray
    reach: int


class Wanted(NamedTuple):
    """What each sub-block of a block wants if it is searched alone; scale 0 if it is all zeros.

    Attributes:
        scales: float32 [sub-blocks], d of its side.
        sides: int64 [sub-blocks], 0 or 1.
        powers: float32 [sub-blocks], Σ w·x².
    """

    scales: np.ndarray
    sides: np.ndarray
    powers: np.ndarray


class WantedLines(NamedTuple):
    """The same for types with minima, where a weight is scale · code − minimum.

    Attributes:
        scales, minima: float32 [sub-blocks].
        means: float32 [sub-blocks], Σ w·code / Σ w.
        powers: float32 [sub-blocks], Σ w·x².
    """

    scales: np.ndarray
    minima: np.ndarray
    means: np.ndarray
    powers: np.ndarray


class ValueSums(NamedTuple):
    """Sums over the values of a sub-block, float32.

    Attributes:
        weight: W = Σ w.
        mean: Σ w·x / W.
        power: Σ w·(x − mean)².
    """

    weight: np.float32
    mean: np.float32
    power: np.float32


class Steps(NamedTuple):
    """The steps of a walk of `cumulative`: where a code moves to the next level.

    Attributes:
        scales: float32 [≥ values · levels], s at which it moves.
        of_a, of_b: float32, as long: what A and B grow by there.
    """

    scales: np.ndarray
    of_a: np.ndarray
    of_b: np.ndarray


class Result(NamedTuple):
    """What rounding finds; every `round_rows` writes the arrays that its types have.

    Attributes:
        scales: float32 [rows, blocks of a row]; the values are exact in float16.
        factors: int8 [rows, sub-blocks of a row]; no columns for types without.
        min_scales, min_factors: the same for minima; only `offset` writes them.
        codes: uint8 [rows, columns].
    """

    scales: np.ndarray
    factors: np.ndarray
    min_scales: np.ndarray
    min_factors: np.ndarray
    codes: np.ndarray
