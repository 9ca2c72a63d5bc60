"""The ladder of sizes, and shards that serve every rung."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from quern.growth.ladder import ladder, shards


def test_the_ladder_doubles_up_to_the_largest():
    assert list(ladder(1024, 2, 10_000, 512)) == [2, 4, 8, 16, 20]
    assert list(ladder(100, 1.5, 1000, 512)) == [1, 2]
    endless = ladder(512, 10, None, 512)
    assert [next(endless) for _ in range(4)] == [1, 10, 100, 1000]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 30))
def test_shards_cover_every_window_once_and_never_reach_over_a_rung(sizes, most):
    rungs = np.cumsum(sizes).tolist()
    cuts = shards(rungs, most)
    windows = [w for first, last in cuts for w in range(first, last)]
    assert windows == list(range(rungs[-1]))
    for first, last in cuts:
        assert last - first <= most
        assert not any(first < rung < last for rung in rungs)
    # A longer ladder collects nothing again.
    assert shards([*rungs, rungs[-1] + 7], most)[: len(cuts)] == cuts
