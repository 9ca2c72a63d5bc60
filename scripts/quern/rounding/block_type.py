"""What all types that are rounded have in common: blocks of bytes, and searches for them."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .. import QuernError
from ..ggml_types import TENSOR_TYPES
from .moment import Factored

PROPOSALS = ("cumulative", "gradient")
IMPORTANCE, COMPENSATED = "importance", "compensated"
ROUNDINGS = (*PROPOSALS, "exact", IMPORTANCE, COMPENSATED)
_F = np.float32


class Rows(NamedTuple):
    """Rows of a tensor that are to be rounded.

    Attributes:
        values: float32 [rows, columns].
        importances: float32 [columns], weights of the squared errors; None for none.
        start: uint8 [rows, bytes of a row], what llama.cpp made of the rows, for types whose search
            begins with that; see `BlockType.rows`.
    """

    values: np.ndarray
    importances: np.ndarray | None = None
    start: np.ndarray | None = None

    def part(self, some: slice) -> "Rows":
        """Some of them."""
        start = None if self.start is None else self.start[some]
        return Rows(np.ascontiguousarray(self.values[some]), self.importances, start)


class BlockType:
    """A tensor type; a subclass is one structure of blocks, and a subclass of that is a type.

    Attributes:
        weights, bytes: of a block, from the table of types.
        roundings: those that there are for it.
    """

    weights: int
    bytes: int
    roundings: tuple[str, ...] = ()

    def __init_subclass__(cls):
        if row := TENSOR_TYPES.get(cls.__name__):
            cls.weights, cls.bytes = row.weights, row.bytes

    @classmethod
    def rows(
        cls,
        values: np.ndarray,
        importances: np.ndarray | None,
        made: Callable[[], np.ndarray],
    ) -> Rows:
        """Rows with all that this type is rounded from.

        Args:
            made: gives the bytes that llama.cpp makes of them, uint8 [rows, bytes of a row]; only
                called where the search begins with these.
        """
        return Rows(values, importances)

    @classmethod
    def checked(cls, rows: Rows) -> Rows:
        """The rows as the searches take them: importances, if any, of at most 1, or else empty.

        Raises:
            QuernError: the shapes do not fit, or an importance is negative or not finite.
        """
        values = np.ascontiguousarray(rows.values, _F)
        if values.ndim != 2 or values.size == 0 or values.shape[1] % cls.weights:
            raise QuernError(f"rows of shape {values.shape} are no whole blocks of {cls.__name__}.")
        importances = np.zeros(0) if rows.importances is None else rows.importances
        importances = np.ascontiguousarray(importances, _F)
        if importances.size and importances.shape != values.shape[1:]:
            raise QuernError(
                f"{importances.size} importances do not fit rows of {values.shape[1]} weights."
            )
        if not (np.isfinite(importances) & (importances >= 0)).all():
            raise QuernError("an importance is negative or not finite.")
        if importances.any():  # only their ratios count
            importances = (importances / np.float64(importances.max())).astype(_F)
        return Rows(values, importances, rows.start)

    @classmethod
    def rows_at_once(cls, columns: int) -> int:
        """How many rows of so many weights a thread rounds at once."""
        raise NotImplementedError

    @classmethod
    def round(cls, rows: Rows, how: str) -> np.ndarray:
        """Round rows by the weights of their squared errors.

        Args:
            rows: as `checked` gives them.
            how: one of `roundings`; `compensated` is `importance` here, since there is no moment.

        Returns:
            uint8 [rows, bytes of a row].

        Raises:
            QuernError: a weight is not finite.
        """
        raise NotImplementedError

    @staticmethod
    def prepared(shrunk: np.ndarray) -> np.ndarray | Factored:
        """A shrunk moment, float32 [n, n], as `compensated` takes it."""
        raise NotImplementedError

    @classmethod
    def compensated(cls, rows: Rows, moment: np.ndarray | Factored) -> np.ndarray:
        """Round rows by a moment that is `prepared`, uint8 [rows, bytes of a row]."""
        raise NotImplementedError

    @classmethod
    def dequantize(cls, raw: np.ndarray) -> np.ndarray:
        """The weights of blocks, float32 [n, weights], to the bit what ggml makes of them.

        Args:
            raw: uint8 [n, bytes].
        """
        raise NotImplementedError


def require_finite(values: np.ndarray) -> None:
    """Refuse weights that are not finite.

    Raises:
        QuernError: one is not.
    """
    if not np.isfinite(values).all():
        raise QuernError("a weight is not finite.")
