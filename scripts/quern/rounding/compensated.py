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
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from scipy import linalg

from .. import QuernError, blas
from .kernels.compensation import FACTORS, MINIMA, ONE_SCALE, descend, feed_back, refit
from .layouts import LAYOUTS
from .rows import round_rows
from .rules import used_levels

STRENGTHS = (0.05, 0.2, 1.0)  # ρ
PASSES = 6  # of the descent, at most
# By which the inverse of a block's scale is changed, to be tried.
STEPS = np.linspace(0.76, 1.24, 15, dtype=np.float32)
PANEL = 256  # columns whose scales are found together
SAMPLE = 192  # rows on which ρ is chosen
_AT_ONCE = 256  # rows that a thread takes at once
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


def factor(moment: np.ndarray, strength: float) -> Factored:
    """Shrink and factor a moment, float64 [n, n].

    Raises:
        QuernError: it is not finite, or has no positive diagonal.
    """
    diagonal = np.diag(moment)
    if not np.isfinite(moment).all() or not (diagonal > 0).any():
        raise QuernError("a second moment is not finite, or zero.")
    shrunk = moment.copy()
    own = np.where(diagonal > 0, diagonal * (1 + strength), diagonal.mean())
    np.fill_diagonal(shrunk, np.maximum(own, 1e-8 * diagonal.mean()))
    with blas.one_thread():
        # Cholesky of H with rows and columns reversed is R, reversed.
        flipped = linalg.cholesky(shrunk[::-1, ::-1], lower=True, check_finite=False)
        upper = flipped[::-1, ::-1]
        inverse = linalg.solve_triangular(upper, np.eye(len(upper)), check_finite=False)
    inverse /= np.diag(inverse)[:, None]
    return Factored(shrunk.astype(_F), (np.diag(upper) ** 2).astype(_F), inverse.astype(_F))


def loss(errors: np.ndarray, moment: np.ndarray) -> float:
    """Σ eᵀ H e over rows, float64."""
    errors = errors.astype(np.float64)
    with blas.one_thread():
        return float(np.einsum("ij,ij->", errors @ moment, errors))


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
    even: np.ndarray,
    odd: np.ndarray,
) -> Chosen:
    """Fit to the moment of even windows with each strength; judge by that of odd ones.

    Args:
        values: float32 [rows, columns], some of a tensor's.
        importances: float32 [columns], for `importance`.
        even, odd: float64 [columns, columns].
    """
    layout = LAYOUTS[kind]

    def lost(raw):
        rounded = layout.dequantize(raw.reshape(-1, layout.bytes))
        return loss(values - rounded.reshape(values.shape), odd)

    plain = lost(round_rows(kind, "importance", values, importances))
    found = [(lost(compensate(kind, values, factor(even, rho))), rho) for rho in STRENGTHS]
    best, rho = min(found)
    if not best < plain:
        return Chosen(None, 1.0)
    return Chosen(rho, best / plain)


def compensate(
    kind: str, values: np.ndarray, factored: Factored, *, threads: int = 1
) -> np.ndarray:
    """Round rows; the result does not depend on the number of threads.

    Args:
        kind: one of `RULES`.
        values: float32 [rows, columns].

    Returns:
        The rows' bytes, uint8 [rows, bytes of a row].
    """
    layout = LAYOUTS[kind]
    out = np.empty((len(values), values.shape[1] // layout.weights * layout.bytes), np.uint8)

    def some(first):
        rows = slice(first, first + _AT_ONCE)
        out[rows] = _compensate(kind, np.ascontiguousarray(values[rows], _F), factored)

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
        """What a block has."""
        if self._layout.minima:
            return MINIMA
        return FACTORS if self._layout.sub_blocks else ONE_SCALE

    def packed(self, a: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Bytes of the blocks, uint8 [rows, blocks, bytes], with what columns have in the end.

        Args:
            a: float32 [rows, columns], which the descent changed in types without minima.
            codes: uint8 [rows, columns], counted from the type's lowest level.
        """
        layout, blocks = self._layout, self._blocks
        each = max(1, layout.sub_blocks)
        a = np.ascontiguousarray(a).reshape(len(blocks.codes), each, -1)[:, :, 0]
        if self.how == ONE_SCALE:
            blocks = blocks._replace(scales=a[:, 0].astype(np.float16))
        else:
            scales = blocks.scales.astype(_F)[:, None]
            factors = np.divide(a, scales, out=np.zeros_like(a), where=scales != 0)
            blocks = blocks._replace(factors=np.rint(factors).astype(np.int8))
        if self.how == MINIMA:
            blocks = blocks._replace(min_factors=self.min_factors.reshape(-1, each).astype(np.int8))
        blocks = blocks._replace(codes=codes.reshape(-1, layout.weights))
        return layout.pack(blocks).reshape(len(codes), -1, layout.bytes)


def _compensate(kind: str, values: np.ndarray, factored: Factored) -> np.ndarray:
    layout, (rows, n) = LAYOUTS[kind], values.shape
    levels = used_levels(kind)
    is_integer = bool((np.diff(levels) == 1).all())
    size = layout.weights // max(1, layout.sub_blocks)
    lowest, highest = map(_F, layout.factor_range)
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
            *(panel.min_scales, panel.min_factors, lowest, highest, STEPS, levels, is_integer),
            *(np.ascontiguousarray(factored.feedback[own, own]), factored.costs[own]),
            *(scales, minima, chosen, errors),
        )
        a[:, own], m[:, own], codes[:, own] = scales, minima, chosen
        if own.stop < n:
            y[:, own.stop :] -= errors @ factored.feedback[own, own.stop :]
        panels.append((own, panel))
    g = (values - (a * levels[codes] - m)) @ factored.moment
    _descend(kind, g, a, codes, factored.moment, [panel for _, panel in panels])
    codes += np.uint8(levels[0] - layout.levels[0])
    parts = [panel.packed(a[:, own], codes[:, own]) for own, panel in panels]
    return np.concatenate(parts, axis=1).reshape(rows, -1)


def _descend(kind, g, a, codes, moment, panels: list[_Panel]) -> None:
    """Descend over codes and, in types without minima, over scales or factors in turn."""
    layout, levels, rows = LAYOUTS[kind], used_levels(kind), len(codes)
    is_integer = bool((np.diff(levels) == 1).all())
    size = layout.weights // max(1, layout.sub_blocks)
    units = np.zeros((rows, codes.shape[1] // size), _F)
    if layout.sub_blocks:
        units = np.concatenate([panel.scales for panel in panels], axis=1)
    lowest, highest = map(_F, layout.factor_range)
    for turn in range(PASSES):
        moved = descend(g, a, levels, is_integer, moment, codes)
        if moved.sum() * 1000 < codes.size or turn == PASSES - 1:
            break
        if not layout.minima:
            refit(g, a, units, lowest, highest, levels, codes, moment, size)
