"""Rounding: which codes and scales the weights of a tensor get. Its type is given.

The rest of Quern calls `round_rows`. `rules` has a line for each type, `layouts` the bytes of its
blocks, `grids` the types whose weights are looked up together, `kernels` the compiled searches.
`pictures` shows where a search misses the optimum.
"""

from .grids import GRIDS
from .layouts import LAYOUTS
from .rows import round_rows
from .rules import COMPENSATED, PROPOSALS, ROUNDINGS, RULES, covers

__all__ = [
    "COMPENSATED",
    "GRIDS",
    "LAYOUTS",
    "PROPOSALS",
    "ROUNDINGS",
    "RULES",
    "covers",
    "round_rows",
]
