"""The second moment of a product's inputs: how far it is believed, and how rounding takes it.

Let x be the input of a matrix, w a row of it, v its rounded values and H = (1/N) Σ x xᵀ. The
squared error of the row's output is (w − v)ᵀ H (w − v); an imatrix knows the diagonal of H alone.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.linalg import lapack

from .. import QuernError, blas

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


class MomentHalves:
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

    def believed(
        self, half: str, strength: float, prepared: Callable[[np.ndarray], np.ndarray | Factored]
    ) -> np.ndarray | Factored:
        """The moment `even`, `odd` or `both`, shrunk and `prepared` as a type takes it."""
        key = half, strength, prepared
        if key in self._kept:
            return self._kept[key]
        found = prepared(shrink(getattr(self, half), strength))
        if not self.are_wide:
            self._kept[key] = found
        return found
