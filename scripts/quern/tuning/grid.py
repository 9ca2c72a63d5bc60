"""The ways to decode windows that are tried. Pure."""

from dataclasses import astuple, dataclass

LEAST = 128  # tokens of a batch; less is faster nowhere, since weights are read more often


@dataclass(frozen=True, order=True)
class Way:
    """How windows are decoded.

    Attributes:
        n_batch: tokens of a decode call.
        n_ubatch: tokens of a graph.
        threads: of all contexts together.
        contexts: how many decode windows side by side.
    """

    n_batch: int
    n_ubatch: int
    threads: int
    contexts: int

    def __str__(self) -> str:
        return "n_batch {}, n_ubatch {}, threads {}, contexts {}".format(*astuple(self))

    def graphs(self, n_ctx: int) -> list[int]:
        """Tokens of each graph of a window."""
        batches = [min(self.n_batch, n_ctx - i) for i in range(0, n_ctx, self.n_batch)]
        return [min(self.n_ubatch, n - i) for n in batches for i in range(0, n, self.n_ubatch)]


def grid(n_ctx: int, usual: Way, *, contexts: tuple[int, ...] = (1, 2)) -> list[Way]:
    """All pairs of powers of two with n_ubatch ≤ n_batch ≤ n_ctx, n_ctx included, by threads.

    Threads are all of the usual way's, and half of them, since two threads of one core may hinder
    each other. Contexts share threads evenly.

    Returns:
        The usual way first, and all others.
    """
    sizes = [1 << k for k in range(LEAST.bit_length() - 1, n_ctx.bit_length()) if 1 << k < n_ctx]
    sizes.append(n_ctx)
    ways = [
        Way(n_batch, n_ubatch, threads, count)
        for threads in dict.fromkeys((usual.threads, max(1, usual.threads // 2)))
        for count in contexts
        if threads % count == 0
        for n_batch in sizes
        for n_ubatch in sizes
        if n_ubatch <= n_batch
    ]
    return list(dict.fromkeys([usual, *ways]))
