"""Orders of the same tokens."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quern.llama import Model
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
        reorder.shuffled_sentences(content, IS_END[content.ravel()], rng()),
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
        lambda content, rng: reorder.shuffled_sentences(content, is_end[content.ravel()], rng),
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
        rng, ends = np.random.default_rng(seed), IS_END[content.ravel()]
        found = reorder.shuffled_sentences(content, ends, rng).ravel()
        left, order = list(found), []
        while left:
            (own,) = [s for s in sentences if s not in order and tuple(left[: len(s)]) == s]
            order.append(own)
            left = left[len(own) :]
        seen.add(tuple(order))
    assert len(seen) > 10


@pytest.mark.parametrize(
    "text", ["A b. C d!", "यह है। वह है॥", "ما هذا؟ هذا", "یہ ہے۔ وہ", "句子。又！", "a\nb"]
)
def test_sentences_end_with_marks_of_many_scripts(made, text):
    """In this model each byte is a token, so most marks are of several."""
    content = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
    with Model(made / "dense.gguf", load="vocab") as model:
        found = reorder.sentence_ends(model, content.reshape(1, -1))
    marks = [i + 1 for i, letter in enumerate(text) if letter in ".!।॥؟۔。！\n"]
    assert (np.flatnonzero(found) + 1).tolist() == [len(text[:i].encode()) for i in marks]


def test_a_text_without_ends_of_sentences_is_said(caplog):
    content = np.arange(30, dtype=np.int32).reshape(3, 10)
    reorder.shuffled_sentences(content, np.arange(30) == 4, np.random.default_rng(0))
    assert "the number of pieces in 3 windows is 2" in caplog.text
    caplog.clear()
    reorder.shuffled_sentences(content, np.arange(30) % 7 == 0, np.random.default_rng(0))
    assert not caplog.text
