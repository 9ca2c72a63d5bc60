"""Orders of the same tokens."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from quern.tokens import reorder

TOKENS = 20
CONTENT = st.tuples(st.integers(2, 6), st.integers(1, 9)).flatmap(
    lambda shape: st.lists(
        st.integers(0, TOKENS - 1), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]
    ).map(lambda values: np.array(values, np.int32).reshape(shape))
)
IS_END = np.arange(TOKENS) % 4 == 0


def orders(content, seed):
    """Each order of some tokens, with documents of five tokens."""
    document = np.arange(content.size) // 5
    place = np.random.default_rng(seed).permutation(document[-1] + 1)

    def rng():
        return np.random.default_rng(seed)

    return [
        reorder.random_windows(content, rng()),
        reorder.shuffled_tokens(content, rng()),
        reorder.shuffled_sentences(content, IS_END, rng()),
        reorder.by_rank(content, document, place),
    ]


@given(CONTENT, st.integers(0, 9))
def test_each_order_has_the_same_tokens_as_often(content, seed):
    expected = np.bincount(content.ravel(), minlength=TOKENS)
    for found, again in zip(orders(content, seed), orders(content, seed), strict=True):
        assert found.shape == content.shape and found.dtype == np.int32
        assert (np.bincount(found.ravel(), minlength=TOKENS) == expected).all()
        assert (found == again).all()


def test_another_seed_is_another_order():
    content = np.arange(600, dtype=np.int32).reshape(12, 50)
    is_end = np.arange(600) % 7 == 0
    for order in (
        reorder.random_windows,
        reorder.shuffled_tokens,
        lambda content, rng: reorder.shuffled_sentences(content, is_end, rng),
    ):
        a, b = (order(content, np.random.default_rng(seed)) for seed in (0, 1))
        assert (a != b).any() and (a != content).any()


def test_windows_at_random_are_cut_elsewhere():
    content = np.arange(600, dtype=np.int32).reshape(12, 50)
    found = reorder.random_windows(content, np.random.default_rng(1))
    starts = found[:, 0]
    assert len(set(starts % 50)) == 1 and starts[0] % 50 != 0
    assert ((found - starts[:, None]) % 600 == np.arange(50)).all()


def test_sentences_stay_whole_and_in_one_piece():
    content = np.array([[1, 2, 0, 3, 5], [0, 7, 4, 9, 9]], np.int32)
    sentences = [(1, 2, 0), (3, 5, 0), (7, 4), (9, 9)]
    seen = set()
    for seed in range(40):
        found = reorder.shuffled_sentences(content, IS_END, np.random.default_rng(seed)).ravel()
        left, order = list(found), []
        while left:
            (own,) = [s for s in sentences if s not in order and tuple(left[: len(s)]) == s]
            order.append(own)
            left = left[len(own) :]
        seen.add(tuple(order))
    assert len(seen) > 10
