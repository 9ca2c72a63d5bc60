"""A spool gives back what was added, under keys that follow the seed and the text alone."""

import hashlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from quern.corpus import spool
from quern.corpus.spool import Spool

ADDED = st.lists(st.tuples(st.integers(0, 255), st.text()), max_size=12)


def filled(folder, added, seed=0):
    """Entries and texts of a spool to which (source, text) pairs were added."""
    with Spool(folder, seed) as texts:
        for source, text in added:
            texts.add(source, text)
        entries = texts.entries()
        return entries, [texts.read(entry) for entry in entries]


@settings(max_examples=50)
@given(added=ADDED)
def test_what_is_added_is_read_back(tmp_path_factory, added):
    entries, found = filled(tmp_path_factory.getbasetemp(), added)
    assert found == [text.encode() for _, text in added]
    assert entries["source"].tolist() == [source for source, _ in added]
    assert entries["characters"].tolist() == [len(text) for _, text in added]
    assert entries["bytes"].tolist() == [len(text.encode()) for _, text in added]


def test_texts_are_read_in_any_order(tmp_path, texts):
    with Spool(tmp_path, 0) as spooled:
        for text in texts[:30]:
            spooled.add(0, text)
        entries = spooled.entries()
        for i in np.random.default_rng(0).permutation(30):
            assert spooled.read(entries[i]) == texts[i].encode()


def test_adding_says_how_many_bytes(tmp_path):
    with Spool(tmp_path, 0) as texts:
        assert [texts.add(0, text) for text in ("", "abc", "äöü", "語")] == [0, 3, 6, 3]


@settings(max_examples=50)
@given(seed=st.integers(0, 1 << 40), text=st.text())
def test_a_key_is_the_hash_of_seed_and_text(tmp_path_factory, seed, text):
    (entry,), _ = filled(tmp_path_factory.getbasetemp(), [(0, text)], seed)
    key = hashlib.sha256(f"{seed}\n{text}".encode()).digest()
    assert int(entry["high"]).to_bytes(8, "big") + int(entry["low"]).to_bytes(8, "big") == key[:16]


def test_keys_know_nothing_of_place_and_source(tmp_path, texts):
    some = texts[:20]
    keys = {}
    for seed, source, order in ((1, 0, 1), (1, 7, -1), (2, 0, 1)):
        entries, _ = filled(tmp_path, [(source, text) for text in some[::order]], seed)
        found = entries[["high", "low"]][::order].tolist()
        keys[seed, source] = found
    assert keys[1, 0] == keys[1, 7] != keys[2, 0]
    assert len(set(keys[1, 0] + keys[2, 0])) == 40


def test_more_texts_than_are_packed_at_once(tmp_path):
    count = spool._TOGETHER + 3
    entries, found = filled(tmp_path, [(i % 200, str(i)) for i in range(count)])
    assert found == [str(i).encode() for i in range(count)]
    assert (entries["source"] == np.arange(count) % 200).all()
    ends = np.cumsum(entries["bytes"], dtype=np.int64)
    assert (entries["offset"][1:] == ends[:-1]).all() and entries["offset"][0] == 0


def test_nothing_is_left_on_disk(tmp_path):
    filled(tmp_path / "new", [(0, "some text")])
    assert list((tmp_path / "new").iterdir()) == []
