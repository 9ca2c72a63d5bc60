"""Copies, near copies, quotations, and the share of n-grams that occur on both sides."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quern.corpus import overlap
from quern.corpus.overlap import Match, Overlap, ngrams

THRESHOLD = 0.7


@pytest.fixture
def documents(texts):
    """Ten documents for evaluation, UTF-8."""
    return [text.encode() for text in texts[:10]]


@pytest.fixture
def unlike():
    """Ten documents of random words."""
    letters = np.random.default_rng(0).integers(97, 123, (10, 300, 7), np.uint8)
    return [b" ".join(map(bytes, document)) for document in letters]


def pieces(text):
    """All n-grams of a text by their definition, as bytes."""
    plain = " ".join(text.decode().lower().split()).encode().ljust(overlap.NGRAM, b"\0")
    return {plain[i : i + overlap.NGRAM] for i in range(len(plain) - overlap.NGRAM + 1)}


def hash_of(piece):
    """The polynomial of an n-gram, mixed, in Python's integers."""
    mask, h = (1 << 64) - 1, 0
    for byte in piece:
        h = (h * overlap._BASE + byte) & mask
    h ^= h >> 32
    h = h * pow(overlap._BASE, 4, 1 << 64) & mask
    return h ^ h >> 29


def sampled(text):
    """The sampled n-grams of a text, as bytes, one by one."""
    return {piece for piece in pieces(text) if hash_of(piece) % overlap.SAMPLED == 0}


def changed(text, step):
    """A text in which one word in `step` is another."""
    words = text.split()
    return b" ".join(b"other" if i % step == 7 else word for i, word in enumerate(words))


def test_an_exact_copy_is_a_near_duplicate(documents):
    found = Overlap(documents, THRESHOLD)
    for number, text in enumerate(documents):
        assert found.match(text) == Match(number, "near-duplicate", 1.0)
    assert found.share == 1


def test_case_and_white_space_make_no_other_text(documents):
    found = Overlap(documents, THRESHOLD)
    for number, text in enumerate(documents):
        other = b"\n\t ".join(text.upper().split())
        assert found.match(other) == Match(number, "near-duplicate", 1.0)


def test_a_near_copy_is_found_with_its_similarity(unlike):
    found = Overlap(unlike, THRESHOLD)
    for number, text in enumerate(unlike):
        near = changed(text, 60)
        ours, others = set(ngrams(text)), set(ngrams(near))
        match = found.match(near)
        assert (match.document, match.kind) == (number, "near-duplicate")
        # MinHash of 128 permutations: four standard errors.
        similarity = len(ours & others) / len(ours | others)
        error = (similarity * (1 - similarity) / overlap.PERMUTATIONS) ** 0.5
        assert similarity < 0.95 and match.share == pytest.approx(similarity, abs=4 * error)


def test_a_quotation_in_a_long_text_is_one(documents, texts):
    found = Overlap(documents, THRESHOLD)
    around = [text.encode() for text in texts[20:40]]
    long = b"\n\n".join([*around[:10], documents[3], *around[10:]])
    assert found.match(long) == Match(3, "quotation", 1.0)


def test_half_a_document_is_quoted_below_the_threshold_only(unlike):
    half = b" ".join([*unlike[5:], unlike[3][: len(unlike[3]) // 2]])
    assert Overlap(unlike[:5], 0.7).match(half) is None
    match = Overlap(unlike[:5], 0.4).match(half)
    assert (match.document, match.kind) == (3, "quotation")
    assert match.share == pytest.approx(0.5, abs=0.05)


def test_unrelated_texts_do_not_match(unlike):
    found = Overlap(unlike[:5], THRESHOLD)
    for text in unlike[5:]:
        assert found.match(text) is None
    assert found.share == 0


def test_hashes_tell_ngrams_apart_and_one_in_four_is_taken(documents):
    for text in documents:
        everything, expected = pieces(text), {hash_of(piece) for piece in sampled(text)}
        assert set(ngrams(text).tolist()) == expected
        assert len(expected) == len(sampled(text))
        error = (len(everything) * 3 / 16) ** 0.5
        assert abs(len(expected) - len(everything) / 4) < 5 * error


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_the_share_is_that_of_sampled_ngrams(data):
    """Texts of few words have much in common; n-grams are counted as bytes."""
    words = st.lists(st.sampled_from([b"ab", b"cde", b"FG h", b"ijklmnop", b"q"]), min_size=20)
    ours = data.draw(st.lists(words.map(b" ".join), min_size=1, max_size=3))
    others = data.draw(st.lists(words.map(b"  ".join), max_size=3))
    counted = set().union(*map(sampled, ours))
    if not all(map(sampled, ours)):  # a text without a sampled n-gram gives its first
        return
    found = Overlap(ours, THRESHOLD)
    for text in others:
        found.match(text)
    common = counted & set().union(*map(sampled, others))
    assert found.share == pytest.approx(len(common) / len(counted))


def test_what_is_removed_does_not_count_as_overlap(documents, texts):
    kept = Overlap(documents, THRESHOLD)
    removed = Overlap(documents, THRESHOLD, "remove")
    rest = texts[40].encode()
    for text in (documents[0], documents[3], rest):
        assert kept.match(text) == removed.match(text)
    alone = Overlap(documents, THRESHOLD)
    alone.match(rest)
    assert removed.share == alone.share < kept.share


def test_a_text_shorter_than_an_ngram_is_compared_whole():
    found = Overlap([b"Yes.", b"No, thank you."], THRESHOLD)
    assert found.match(b"no,  thank you.") == Match(1, "near-duplicate", 1.0)
    assert found.match(b"Yes!") is None
    assert found.share == 0.5


def test_without_a_text_for_evaluation_nothing_matches(documents):
    found = Overlap([], THRESHOLD)
    assert found.match(documents[0]) is None and found.share == 0
