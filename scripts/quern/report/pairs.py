"""Two recipes beside each other: the rows of `summary.pairs`, whichever of the two comes first."""

from typing import NamedTuple

import pandas as pd

from .. import QuernError

_TURNED = {"better": "worse", "worse": "better"}


class Difference(NamedTuple):
    """A figure of one recipe less that of another: the value, its 95 % interval, a verdict."""

    value: float
    low: float
    high: float
    verdict: str

    def __str__(self) -> str:
        return f"{self.value:+.6f} ({self.low:+.6f} to {self.high:+.6f}), {self.verdict}"

    @property
    def size(self) -> str:
        """How large it is, in nats, where the verdict says which way."""
        ends = sorted((abs(self.low), abs(self.high)))
        return f"{abs(self.value):.3g} nats ({ends[0]:.3g} to {ends[1]:.3g})"


class Differences:
    """The paired differences of every two recipes.

    Args:
        pairs: `summary.pairs`'.
        figure: which of its figures.
    """

    def __init__(self, pairs: pd.DataFrame, figure: str):
        own = pairs[pairs.figure == figure]
        columns = (own[c] for c in ("recipe", "other", "difference", "low", "high", "verdict"))
        self._of = {
            (one, other): Difference(*rest) for one, other, *rest in zip(*columns, strict=True)
        }

    def of(self, one: str, other: str) -> Difference:
        """One recipe against another.

        Raises:
            QuernError: the two were not compared.
        """
        if found := self._of.get((one, other)):
            return found
        if found := self._of.get((other, one)):
            turned = _TURNED.get(found.verdict, found.verdict)
            return Difference(-found.value, -found.high, -found.low, turned)
        raise QuernError(f"the table of pairs does not hold {one} and {other}; make it anew.")
