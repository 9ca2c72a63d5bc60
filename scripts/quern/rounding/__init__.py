"""Rounding: codes and scales for the weights of a tensor, its type being decided.

`round_rows` is what the rest of Quern calls. `rules` has a line for each type, `layouts` the bytes
of its blocks, `kernels` the compiled searches; `pictures` shows what the searches miss.
"""

from .layouts import LAYOUTS
from .rows import round_rows
from .rules import PROPOSALS, ROUNDINGS, RULES, covers

__all__ = ["LAYOUTS", "PROPOSALS", "ROUNDINGS", "RULES", "covers", "round_rows"]
