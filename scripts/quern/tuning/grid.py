"""The ways to decode windows that are tried."""

from collections.abc import Mapping
from dataclasses import asdict, replace

from ..llama import Way

TRIED = ("n_batch", "n_ubatch", "threads", "contexts")  # of a way; its GPUs are given
LEAST = 128  # tokens of a batch; less is faster nowhere, since weights are read more often


def described(way: Way) -> dict[str, int]:
    """What is tried of a way."""
    return {name: value for name, value in asdict(way).items() if name in TRIED}


def way_of(facts: Mapping) -> Way:
    """The way among facts that `described` is part of."""
    return Way(**{name: facts[name] for name in TRIED})


def label(way: Way) -> str:
    """What a way is called, such as `n_batch 512, n_ubatch 512, threads 2, contexts 1`."""
    return ", ".join(f"{name} {value}" for name, value in described(way).items())


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
        replace(usual, n_batch=n_batch, n_ubatch=n_ubatch, threads=threads, contexts=count)
        for threads in dict.fromkeys((usual.threads, max(1, usual.threads // 2)))
        for count in contexts
        if threads % count == 0
        for n_batch in sizes
        for n_ubatch in sizes
        if n_ubatch <= n_batch
    ]
    return list(dict.fromkeys([usual, *ways]))
