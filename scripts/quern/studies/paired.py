"""How much more one row of a table strays than another, with intervals that hold together.

All rows are resampled alike, so differences are paired (`measure.statistics`). A table of m
differences gives each an interval of confidence 1 - 0.05 / m (Bonferroni), so that with 95 % all of
them hold at once.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy import special

from ..measure import statistics


@dataclass(frozen=True)
class Measured:
    """The figures of a row, resampled like those of the others.

    Attributes:
        values: figures by name, in nats.
        drawn: their bootstrap replicates, each [replicates].
        units: how many windows, or blocks of windows, were resampled.
        noise: 95 % bounds on how far a figure moves in other graphs.
        spread: standard deviation between seeds, of a mean over several.
        seeds: how many there are.
    """

    values: dict[str, float]
    drawn: dict[str, np.ndarray]
    units: int
    noise: dict[str, float] = field(default_factory=dict)
    spread: dict[str, float] = field(default_factory=dict)
    seeds: int = 1

    @classmethod
    def of(cls, sample: statistics.Sample, noise: dict[str, float]) -> "Measured":
        """A sample's figures."""
        found = sample.replicates
        return cls(found.values, found.drawn, found.n_windows, noise)


def mean(rows: Sequence[Measured]) -> Measured:
    """The mean over seeds, and the spread between them; noise as if it did not average out."""
    if len(rows) == 1:
        return rows[0]
    names = rows[0].values
    return Measured(
        {name: float(np.mean([r.values[name] for r in rows])) for name in names},
        {name: np.mean([r.drawn[name] for r in rows], axis=0) for name in names},
        rows[0].units,
        {name: max(r.noise.get(name, 0.0) for r in rows) for name in names},
        {name: float(np.std([r.values[name] for r in rows], ddof=1)) for name in names},
        len(rows),
    )


class Relative(NamedTuple):
    """A figure of one row over that of another, less 1, with its interval and a verdict.

    `better`, `worse`, `tied` (within the noise of both), or `cannot tell`; low is good.
    """

    value: float
    low: float
    high: float
    noise: float
    verdict: str

    def __str__(self) -> str:
        ends = f"{self.low:+.2%} to {self.high:+.2%}"
        return f"{self.value:+.2%} ({ends}), {self.verdict}"


def relative(one: Measured, other: Measured, figure: str, comparisons: int) -> Relative:
    """How much higher a figure of `one` is than that of `other`, as a share of the latter.

    The interval is Student's, of the windows' bootstrap variance. The mean over k seeds of standard
    deviation s adds s² / k, since other seeds would have given another mean; degrees of freedom are
    then Welch's and Satterthwaite's.

    Args:
        comparisons: how many differences there are in the table.
    """
    ratio = one.values[figure] / other.values[figure]
    drawn = one.drawn[figure] / other.drawn[figure]
    parts = [(float(drawn.var(ddof=1)), one.units - 1)]
    for row, scale in ((one, 1.0), (other, ratio)):
        if row.seeds > 1:
            share = scale * row.spread[figure] / other.values[figure]
            parts.append((share**2 / row.seeds, row.seeds - 1))
    half = _half_width(parts, 1 - 0.05 / comparisons)
    noise = ratio * math.hypot(
        *(row.noise.get(figure, 0.0) / row.values[figure] for row in (one, other))
    )
    value, low, high = ratio - 1, ratio - 1 - half, ratio - 1 + half
    return Relative(value, low, high, noise, statistics.verdict(low, high, value, noise))


def _half_width(parts: list[tuple[float, int]], confidence: float) -> float:
    """Half of Student's interval, of variances that add up, each with its degrees of freedom."""
    total = sum(variance for variance, _ in parts)
    if total == 0:
        return 0.0
    freedom = total**2 / sum(variance**2 / degrees for variance, degrees in parts)
    return float(special.stdtrit(freedom, (1 + confidence) / 2) * math.sqrt(total))


def stands(difference: Relative, claimed: tuple[float, float]) -> str:
    """Whether a claimed range of relative differences, all of one sign, stands beside an interval.

    It stands where the interval excludes 0 and meets the range, and does not where it excludes the
    range; noise widens the interval.
    """
    low, high = claimed
    noise = difference.noise
    if difference.high + noise < low or difference.low - noise > high:
        return "it does not stand"
    return "it stands" if difference.verdict in ("better", "worse") else "it cannot be told"
