"""How tokens are derived from a pool's: in another order, as some windows, or as text at random.

Pure, since the rules read it.
"""

from dataclasses import dataclass

from ..command import option

# All are orders of the same tokens.
ORDERS = (
    "documents",
    "shuffled-documents",
    "random-windows",
    "shuffled-sentences",
    "shuffled-tokens",
)
OF_DOCUMENTS = ("documents", "shuffled-documents")
RANDOM = ("tokens", "words", "bytes", "samples")
WHICH = ("highest", "lowest", "random")


@dataclass(frozen=True)
class Derivation:
    """One of `order`, `random` and `which`, and how much."""

    n_ctx: int = option("tokens per window", 512)
    windows: int | None = option(
        "how many; where it is an order at most, or all of the pool if not given", None, type=int
    )
    order: str | None = option(
        "another order of the pool's first windows; documents is that of their sources",
        None,
        choices=ORDERS,
    )
    random: str | None = option(
        "text at random: tokens, words of the pool, printable bytes, or the model's own samples",
        None,
        choices=RANDOM,
    )
    which: str | None = option(
        "windows of the pool, those with the highest or lowest divergence or some at random",
        None,
        choices=WHICH,
    )
    among: int | None = option(
        "choose at random among so many windows of the pool (default: all)", None, type=int
    )
    seed: int = option("decides what is at random", 0)
