"""Rounding with the whole second moment: the error of one weight is made up by the others.

Let x be the input of a matrix, w a row of it, v its rounded values and H = (1/N) Σ x xᵀ. The
squared error of the row's output is (w − v)ᵀ H (w − v); an imatrix knows the diagonal of H alone.

1. *Shrink*: H ← H + ρ diag H. A column that was never read gets the mean of the diagonal.
2. *Factor*: H = R Rᵀ, R upper triangular, and U = R⁻¹ with each row divided by its diagonal.
3. *Feed back* (GPTQ, Frantar et al. 2022; LDLQ, Chee et al. 2023): columns are rounded in order,
   and what is left of the error of column i, δ_i, is taken from those after it: y_j −= δ_i U_ij.
   The loss is then Σ R_ii² δ_i². Scales and factors of a panel of 256 columns come from the search
   of `importance` on y as it is when the panel's turn comes, with weights R_ii²; when a block's
   turn comes, some around its own are carried through it with their feedback, and the best stays.
4. *Descend*: with e = w − v and g = H e, each code in turn goes to the level nearest to where the
   loss is least, and g is brought up to date. Between passes, in types without minima, so does each
   block's scale or sub-block's factor: a += qᵀg / qᵀHq. The loss never rises.

How far H is believed (ρ) is chosen for each tensor on some of its rows: fitted to the moment of one
half of the windows, judged by the other. Where `importance` is no worse there, it stays.

Types of `GRIDS` begin at step 4, with what llama.cpp made of them.
"""

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from scipy.linalg import lapack

from .. import QuernError, blas
from .grids import GRIDS, improve
from .kernels import compensation
from .kernels.compensation import descend, feed_back
from .layouts import LAYOUTS
from .refits import refit_all
from .rows import dequantize_rows, round_rows
from .rules import used_levels

STRENGTHS = (0.05, 0.2, 1.0)  # ρ
PASSES = 6  # of the descent, at most
PANEL = 256  # columns whose scales are found together
SAMPLE = 64  # rows on which ρ is chosen
_FEW = 1000  # A thousandth of the weights is next to nothing.
_AT_ONCE = 96  # rows that a thread takes at once
_WIDE = 8192  # columns up to which factors are kept
_F = np.float32


class Factored(NamedTuple):
    """A moment, ready for rounding.

    Attributes:
        moment: float32 [n, n], H after shrinking.
        costs: float32 [n], R_ii².
        feedback: float32 [n, n], U with rows divided by their diagonal.
    """

    moment: np.ndarray
    costs: np.ndarray
    feedback: np.ndarray


def shrink(moment: np.ndarray, strength: float) -> np.ndarray:
    """H + ρ diag H, float32 [n, n].

    Raises:
        QuernError: it is not finite, or has no positive diagonal.
    """
    diagonal = np.diag(moment)
    if not np.isfinite(moment).all() or not (diagonal > 0).any():
        raise QuernError("a second moment is not finite, or zero.")
    mean = diagonal.mean()
    shrunk = moment.copy()
    own = np.where(diagonal > 0, diagonal * _F(1 + strength), mean)
    np.fill_diagonal(shrunk, np.maximum(own, _F(1e-8) * mean))
    return shrunk


def factor(shrunk: np.ndarray) -> Factored:
    """Factor a moment that is shrunk.

    That is done in float32, of H with a diagonal of ones; where ρ is 0.05, its condition is at most
    20 n.

    Raises:
        QuernError: it is not positive.
    """
    root = np.sqrt(np.diag(shrunk))
    scaled = shrunk / root
    scaled /= root[:, None]
    with blas.one_thread():
        # Cholesky of H with rows and columns reversed is R, reversed.
        flipped, failed = lapack.spotrf(scaled[::-1, ::-1], lower=True, clean=True)
        if failed:
            raise QuernError("a second moment is not positive.")
        costs = (root * np.diag(flipped)[::-1]) ** 2
        inverse, _ = lapack.strtri(flipped, lower=True, overwrite_c=True)
    feedback = np.ascontiguousarray(inverse[::-1, ::-1])
    feedback *= (root / np.diag(feedback))[:, None]
    feedback /= root
    return Factored(shrunk, costs, feedback)


def loss(errors: np.ndarray, moment: np.ndarray) -> float:
    """Σ eᵀ H e over rows; products in float32, their sum in float64."""
    with blas.one_thread():
        products = (errors @ moment) * errors
    return float(products.sum(dtype=np.float64))


class Inputs:
    """What is known of the inputs of a product; kept for all that share them, while it is small.

    Attributes:
        even, odd, both: float32 [n, n], (1/N) Σ x xᵀ over halves of the windows, and all.
    """

    def __init__(self, even: np.ndarray, odd: np.ndarray, both: np.ndarray | None = None):
        self.even, self.odd = even, odd
        self.both = (even + odd) / _F(2) if both is None else both
        self._kept: dict[tuple, np.ndarray | Factored] = {}

    @property
    def are_wide(self) -> bool:
        """Whether there is room for one factored moment at a time."""
        return len(self.even) > _WIDE

    def believed(self, half: str, strength: float, kind: str) -> np.ndarray | Factored:
        """The moment `even`, `odd` or `both`, shrunk, and factored where the type needs that."""
        key = half, strength, kind in GRIDS
        if key in self._kept:
            return self._kept[key]
        found = shrink(getattr(self, half), strength)
        if kind not in GRIDS:
            found = factor(found)
        if not self.are_wide:
            self._kept[key] = found
        return found


class Chosen(NamedTuple):
    """How far a moment is believed for a tensor.

    Attributes:
        strength: ρ; None where `importance` stays.
        ratio: the loss on the other half of the windows over that of `importance`.
    """

    strength: float | None
    ratio: float


def choose(
    kind: str,
    values: np.ndarray,
    importances: np.ndarray | None,
    inputs: Inputs,
    *,
    start: np.ndarray | None = None,
    threads: int = 1,
) -> Chosen:
    """Fit to the moment of even windows with each strength; judge by that of odd ones.

    Args:
        values: float32 [rows, columns], some of a tensor's.
        importances: float32 [columns], for `importance`.
        start: as for `round_rows`.
    """

    def lost(raw):
        return loss(values - dequantize_rows(kind, raw, values.shape), inputs.odd)

    def tried(strength):
        return lost(compensate(kind, values, inputs.believed("even", strength, kind), start=start))

    plain = lost(round_rows(kind, "importance", values, importances, start=start))
    with ThreadPoolExecutor(1 if inputs.are_wide else threads) as pool:
        best, strength = min(zip(pool.map(tried, STRENGTHS), STRENGTHS, strict=True))
    if not best < plain:
        return Chosen(None, 1.0)
    return Chosen(strength, best / plain)


def compensate(
    kind: str,
    values: np.ndarray,
    moment: np.ndarray | Factored,
    *,
    start: np.ndarray | None = None,
    threads: int = 1,
) -> np.ndarray:
    """Round rows; the result does not depend on the number of threads.

    Args:
        kind: one of `RULES` or `GRIDS`.
        values: float32 [rows, columns].
        moment: what `Inputs.believed` gives for the kind.
        start: as for `round_rows`.

    Returns:
        The rows' bytes, uint8 [rows, bytes of a row].
    """
    if kind in GRIDS:
        return improve(kind, start, values, moment, threads=threads)
    layout = LAYOUTS[kind]
    out = np.empty((len(values), values.shape[1] // layout.weights * layout.bytes), np.uint8)

    def some(first):
        rows = slice(first, first + _AT_ONCE)
        out[rows] = _compensate(kind, np.ascontiguousarray(values[rows], _F), moment)

    firsts = range(0, len(values), _AT_ONCE)
    with blas.one_thread(), ThreadPoolExecutor(threads) as pool:
        list(pool.map(some, firsts))
    return out


class _Panel:
    """The blocks of some columns: what the search found of them, as arrays that are tried around.

    Attributes:
        scales, factors, min_scales, min_factors: float32 [rows, blocks or sub-blocks].
    """

    def __init__(self, kind: str, raw: np.ndarray):
        self._layout, rows = LAYOUTS[kind], len(raw)
        self._blocks = self._layout.unpack(raw.reshape(-1, self._layout.bytes))
        each = max(1, self._layout.sub_blocks)

        def spread(values, times):
            if values is None:
                return np.zeros((rows, len(self._blocks.codes) // rows * each), _F)
            return np.repeat(values.astype(_F), times).reshape(rows, -1)

        self.scales = spread(self._blocks.scales, each)
        self.factors = spread(self._blocks.factors, 1)
        self.min_scales = spread(self._blocks.min_scales, each)
        self.min_factors = spread(self._blocks.min_factors, 1)

    @property
    def how(self) -> int:
        """What a block of columns has."""
        layout = self._layout
        if layout.steps is not None:
            return compensation.LISTED
        if layout.sub_blocks:
            return compensation.MINIMA if layout.minima else compensation.FACTORS
        return compensation.LINE if layout.minima else compensation.ONE_SCALE

    @property
    def units(self) -> tuple[np.ndarray, np.ndarray]:
        """What factors multiply; 0 where scales and minima are stored as they are."""
        if self._layout.sub_blocks:
            return self.scales, self.min_scales
        return np.zeros_like(self.scales), np.zeros_like(self.scales)

    def packed(self, a: np.ndarray, m: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Bytes of the blocks, uint8 [rows, blocks, bytes], with what columns have in the end.

        Args:
            a, m: float32 [rows, columns].
            codes: uint8 [rows, columns], counted from the type's lowest level.
        """
        layout, blocks = self._layout, self._blocks
        shape = len(blocks.codes), max(1, layout.sub_blocks)

        def of_blocks(values):
            return np.ascontiguousarray(values).reshape(*shape, -1)[:, :, 0]

        def stored(values, scales):
            """The float16 values, or the factors; in the place of both."""
            if not layout.sub_blocks:
                return values[:, 0].astype(np.float16), None
            if layout.steps is not None:
                found = np.searchsorted(layout.steps, values) + layout.factor_range[0]
                return scales, found.astype(np.int8)
            unit = scales.astype(_F)[:, None]
            found = np.divide(values, unit, out=np.zeros_like(values), where=unit != 0)
            return scales, np.rint(found).astype(np.int8)

        scales, factors = stored(of_blocks(a), blocks.scales)
        blocks = blocks._replace(scales=scales, factors=factors)
        if layout.minima:
            scales, factors = stored(of_blocks(m), blocks.min_scales)
            blocks = blocks._replace(min_scales=scales, min_factors=factors)
        blocks = blocks._replace(codes=codes.reshape(-1, layout.weights))
        return layout.pack(blocks).reshape(len(codes), -1, layout.bytes)


class _Levels(NamedTuple):
    levels: np.ndarray
    middles: np.ndarray
    are_integers: bool


@functools.cache
def _levels(kind: str) -> _Levels:
    levels = used_levels(kind)
    middles = (levels[1:] + levels[:-1]) / _F(2)
    return _Levels(levels, middles, bool((np.diff(levels) == 1).all()))


def _factors(layout) -> compensation.Factors:
    steps = np.zeros(0, _F) if layout.steps is None else layout.steps
    return compensation.Factors(*map(_F, (*layout.factor_range, 1)), steps)


def _size(layout) -> int:
    """Columns of a sub-block, or of a block where it has none."""
    return layout.weights // max(1, layout.sub_blocks)


def _compensate(kind: str, values: np.ndarray, factored: Factored) -> np.ndarray:
    layout, (rows, n) = LAYOUTS[kind], values.shape
    levels = _levels(kind)
    size = _size(layout)
    y, panels = values.copy(), []
    a, m, codes = np.empty_like(y), np.empty_like(y), np.empty(y.shape, np.uint8)
    for begin in range(0, n, PANEL):
        own = slice(begin, min(begin + PANEL, n))
        left = np.ascontiguousarray(y[:, own])
        panel = _Panel(kind, round_rows(kind, "importance", left, factored.costs[own]))
        errors, scales, minima = (np.empty_like(left) for _ in range(3))
        chosen = np.empty(left.shape, np.uint8)
        feed_back(
            *(left, panel.how, size, panel.scales, panel.factors),
            *(panel.min_scales, panel.min_factors, _factors(layout), *levels),
            *(np.ascontiguousarray(factored.feedback[own, own]), factored.costs[own]),
            *(scales, minima, chosen, errors),
        )
        a[:, own], m[:, own], codes[:, own] = scales, minima, chosen
        if own.stop < n:
            y[:, own.stop :] -= errors @ factored.feedback[own, own.stop :]
        panels.append((own, panel))
    g = (values - (a * levels.levels[codes] - m)) @ factored.moment
    _descend(kind, g, a, m, codes, factored.moment, [panel for _, panel in panels])
    codes += np.uint8(levels.levels[0] - layout.levels[0])
    parts = [panel.packed(a[:, own], m[:, own], codes[:, own]) for own, panel in panels]
    return np.concatenate(parts, axis=1).reshape(rows, -1)


def _descend(kind, g, a, m, codes, moment, panels: list[_Panel]) -> None:
    """Descend over codes, and over scales, factors and minima, in turn; they are changed."""
    layout, levels, pays = LAYOUTS[kind], _levels(kind), True
    diagonal = np.ascontiguousarray(np.diag(moment))
    units = tuple(np.concatenate([p.units[k] for p in panels], axis=1) for k in range(2))
    for turn in range(PASSES):
        moved = descend(g, a, *levels, moment, diagonal, codes)
        if moved.sum() * _FEW < codes.size or turn == PASSES - 1:
            break
        if pays:
            of_minima = m if layout.minima else None
            what = levels.levels[codes], units, _factors(layout), moment, _size(layout)
            pays = refit_all(g, a, of_minima, *what) * _FEW > codes.size
