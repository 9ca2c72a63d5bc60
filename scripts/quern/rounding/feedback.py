"""Parts of `compensated` for types of one code a weight: panels that are fed back, then descent.

See `compensated`, steps 3 and 4. What depends on the structure of blocks is the type's: its search,
its `candidates`, its `factors`, and what it has `stored`.
"""

import numpy as np

from .block_type import IMPORTANCE, Rows
from .kernels.compensation import descend, feed_back
from .moment import Factored
from .refits import refit_all

PASSES = 6  # of the descent, at most
PANEL = 256  # columns whose scales are found together
FEW = 1000  # A thousandth of the weights is next to nothing.
_F = np.float32


def compensated(kind, values: np.ndarray, factored: Factored) -> np.ndarray:
    """Round rows, float32 [rows, n], to a `CodedType`; uint8 [rows, bytes of a row]."""
    rows, n = values.shape
    nearest = _nearest(kind)
    y, panels = values.copy(), []
    a, m, codes = np.empty_like(y), np.empty_like(y), np.empty(y.shape, np.uint8)
    for begin in range(0, n, PANEL):
        own = slice(begin, min(begin + PANEL, n))
        left = np.ascontiguousarray(y[:, own])
        panel = _Panel(kind, kind.round(kind.checked(Rows(left, factored.costs[own])), IMPORTANCE))
        errors, scales, minima = (np.empty_like(left) for _ in range(3))
        chosen = np.empty(left.shape, np.uint8)
        feed_back(
            *(left, kind.candidates, kind.size, panel.scales, panel.factors),
            *(panel.min_scales, panel.min_factors, kind.factors(), *nearest),
            *(np.ascontiguousarray(factored.feedback[own, own]), factored.costs[own]),
            *(scales, minima, chosen, errors),
        )
        a[:, own], m[:, own], codes[:, own] = scales, minima, chosen
        if own.stop < n:
            y[:, own.stop :] -= errors @ factored.feedback[own, own.stop :]
        panels.append((own, panel))
    g = (values - (a * kind.used[codes] - m)) @ factored.moment
    _descend(kind, g, a, m, codes, factored.moment, [panel for _, panel in panels])
    codes += np.uint8(kind.used[0] - kind.levels[0])
    parts = [panel.packed(a[:, own], m[:, own], codes[:, own]) for own, panel in panels]
    return np.concatenate(parts, axis=1).reshape(rows, -1)


def _nearest(kind) -> tuple[np.ndarray, np.ndarray, bool]:
    """How the level nearest to a value is found: levels, middles, whether they are integers."""
    return kind.used, kind.middles(), bool((np.diff(kind.used) == 1).all())


class _Panel:
    """The blocks of some columns: what the search found of them, as arrays that are tried around.

    Attributes:
        scales, factors, min_scales, min_factors: float32 [rows, blocks or sub-blocks].
        has_minima: whether they have minima.
        units: (of scales, of minima) as arrays of the same shape: what factors multiply; 0 where
            scales and minima are stored as they are.
    """

    def __init__(self, kind, raw: np.ndarray):
        self._kind, rows = kind, len(raw)
        self._blocks = blocks = kind.unpack(raw.reshape(-1, kind.bytes))
        each = kind.weights // kind.size

        def spread(values, times):
            if values is None:
                return np.zeros((rows, len(blocks.codes) // rows * each), _F)
            return np.repeat(values.astype(_F), times).reshape(rows, -1)

        self.scales, self.factors = spread(blocks.scales, each), spread(blocks.factors, 1)
        self.min_scales = spread(blocks.min_scales, each)
        self.min_factors = spread(blocks.min_factors, 1)
        self.has_minima = blocks.min_scales is not None
        self.units = self.scales, self.min_scales
        if blocks.factors is None:
            self.units = np.zeros_like(self.scales), np.zeros_like(self.scales)

    def packed(self, a: np.ndarray, m: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Bytes of the blocks, uint8 [rows, blocks, bytes], with what columns have in the end.

        Args:
            a, m: float32 [rows, columns].
            codes: uint8 [rows, columns], counted from the type's lowest level.
        """
        kind, blocks = self._kind, self._blocks
        shape = len(blocks.codes), kind.weights // kind.size

        def of_blocks(values):
            return np.ascontiguousarray(values).reshape(*shape, -1)[:, :, 0]

        scales, factors = kind.stored(of_blocks(a), blocks.scales)
        blocks = blocks._replace(scales=scales, factors=factors)
        if self.has_minima:
            scales, factors = kind.stored(of_blocks(m), blocks.min_scales)
            blocks = blocks._replace(min_scales=scales, min_factors=factors)
        blocks = blocks._replace(codes=codes.reshape(-1, kind.weights))
        return kind.pack(blocks).reshape(len(codes), -1, kind.bytes)


def _descend(kind, g, a, m, codes, moment, panels: list[_Panel]) -> None:
    """Descend over codes, and over scales, factors and minima, in turn; they are changed."""
    nearest, pays = _nearest(kind), True
    diagonal = np.ascontiguousarray(np.diag(moment))
    units = tuple(np.concatenate([p.units[k] for p in panels], axis=1) for k in range(2))
    for turn in range(PASSES):
        moved = descend(g, a, *nearest, moment, diagonal, codes)
        if moved.sum() * FEW < codes.size or turn == PASSES - 1:
            break
        if pays:
            of_minima = m if panels[0].has_minima else None
            what = kind.used[codes], units, kind.factors(), moment, kind.size
            pays = refit_all(g, a, of_minima, *what) * FEW > codes.size
