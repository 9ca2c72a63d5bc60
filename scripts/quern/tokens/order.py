"""The order in which documents, or windows of them, are mixed: any prefix keeps the proportions."""

import hashlib

import numpy as np


def interleave(sizes: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mix items of several groups, each group in its own order.

    The next item is always of the group that has the fewest tokens for its weight so far. So, after
    any item, two groups' tokens divided by their weights differ by at most one item's tokens
    divided by its group's weight. The mix ends when the first group is used up.

    Args:
        sizes: tokens of each item, int [n].
        groups: the group of each item, int [n].
        weights: the share of each group, float [groups], above zero.

    Returns:
        Numbers of the items in their order, int [at most n].
    """
    before = np.empty(len(sizes))  # tokens of the item's group before it, by weight
    whole = np.empty(len(weights))
    for group, weight in enumerate(weights):
        own = groups == group
        ends = np.cumsum(sizes[own])
        before[own] = (ends - sizes[own]) / weight
        whole[group] = (ends[-1] if len(ends) else 0) / weight
    order = np.lexsort((np.arange(len(sizes)), groups, before))
    return order[before[order] < whole.min()]


def shuffled(count: int, seed: int, name: str) -> np.ndarray:
    """The numbers 0 to `count` - 1 in an order that depends on the seed and the name alone."""
    keys = [
        int.from_bytes(hashlib.sha256(f"{seed}\n{name}\n{i}".encode()).digest()[:8], "big")
        for i in range(count)
    ]
    return np.argsort(np.array(keys, np.uint64), kind="stable")
