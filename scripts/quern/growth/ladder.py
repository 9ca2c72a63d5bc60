"""The ladder of sizes that an imatrix grows along, and the shards that serve every rung."""

from collections.abc import Iterator
from itertools import pairwise


def ladder(first: int, factor: float, largest: int | None, n_ctx: int) -> Iterator[int]:
    """Windows of each rung; sizes are given in tokens. Without `largest` there is no end."""
    size, last = float(first), 0
    while True:
        capped = size if largest is None else min(size, largest)
        windows = max(1, round(capped / n_ctx))
        if windows > last:
            yield windows
            last = windows
        if capped == largest:
            return
        size *= factor


def shards(rungs: list[int], most: int) -> list[tuple[int, int]]:
    """The shards (first window, window after the last) up to the last of `rungs`.

    A shard never reaches over a rung, and holds at most `most` windows.
    """
    return [
        (start, min(start + most, end))
        for begin, end in pairwise([0, *rungs])
        for start in range(begin, end, most)
    ]
