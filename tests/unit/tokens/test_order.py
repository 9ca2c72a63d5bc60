"""Sources are mixed in proportion, in every prefix; a shuffle is the same for ever."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from quern.tokens.order import interleave, shuffled


@given(
    st.lists(st.tuples(st.integers(1, 500), st.integers(0, 2)), min_size=3, max_size=60),
    st.lists(st.floats(0.1, 10), min_size=3, max_size=3),
)
def test_every_prefix_keeps_the_proportions(items, weights):
    sizes, groups = np.array([(10, 0), (10, 1), (10, 2), *items]).T
    weights = np.array(weights)
    order = interleave(sizes, groups, weights)
    by_group = (groups[order][:, None] == np.arange(3)) * sizes[order][:, None] / weights
    taken = np.cumsum(by_group, axis=0)
    assert (np.ptp(taken, axis=1) <= (sizes / weights[groups]).max() + 1e-6).all()
    used_up = [(groups[order] == g).sum() == (groups == g).sum() for g in range(3)]
    assert any(used_up)
    for group in range(3):
        assert (np.diff(order[groups[order] == group]) > 0).all()


def test_a_shuffle_is_the_same_for_ever():
    assert shuffled(8, 0, "a").tolist() == shuffled(8, 0, "a").tolist()
    assert sorted(shuffled(100, 1, "a")) == list(range(100))
    assert shuffled(100, 1, "a").tolist() != shuffled(100, 2, "a").tolist()
    assert shuffled(100, 1, "a").tolist() != shuffled(100, 1, "b").tolist()
