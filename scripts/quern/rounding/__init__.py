"""Rounding: which codes and scales the weights of a tensor get. Its type is given.

The rest of Quern calls `round_rows`. `structures` has a class for each structure of blocks, with
its search, and `layouts` a class for each type; `grids` has the types whose weights are looked up
together; `kernels` are the compiled searches. `compensated` rounds by second moments of inputs.
`pictures` shows where a search misses the optimum.
"""

from .block_type import COMPENSATED, PROPOSALS, ROUNDINGS, Rows
from .rows import TYPES, covers, round_rows

__all__ = [
    "COMPENSATED",
    "PROPOSALS",
    "ROUNDINGS",
    "TYPES",
    "Rows",
    "covers",
    "round_rows",
]
