"""Text of the evaluation part that occurs in the pool as well: near-duplicates and quotations.

The unit is an n-gram of 24 bytes of text in lower case with single spaces: four or five English
words, eight Chinese characters. One n-gram in four is used. Its hash decides, so the choice is the
same in every text. Near-duplicates are found by MinHash and locality-sensitive hashing (the
datasketch library); quotations and the overlap are counted.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from datasketch import MinHash, MinHashLSH

NGRAM = 24  # bytes
SAMPLED = 4  # one n-gram in this many
PERMUTATIONS = 128
_BASE = 0x9E3779B97F4A7C15  # odd, so that no byte of an n-gram is lost
_POWERS = {n: np.uint64(pow(_BASE, n, 1 << 64)) for n in (1, 2, 4, 8)}
_FILTER_BITS = 24


def _hashes(text: bytes) -> np.ndarray:
    """Hashes of a text's sampled n-grams as they come, uint64 [n]; at least one.

    Polynomials in _BASE modulo 2^64. Those of 2, 4, 8 and 16 bytes are made of two halves, those of
    24 of 16 and 8. A text shorter than an n-gram is filled up.
    """
    plain = b" ".join(text.lower().split()).ljust(NGRAM, b"\0")
    hashes, eight = np.frombuffer(plain, np.uint8).astype(np.uint64), None
    for width in (1, 2, 4, 8):
        eight = hashes if width == 8 else None
        hashes = hashes[:-width] * _POWERS[width] + hashes[width:]
    hashes = hashes[: len(eight) - 16] * _POWERS[8] + eight[16:]
    hashes ^= hashes >> np.uint64(32)  # the low bits of a product know only low bits
    hashes *= _POWERS[4]
    hashes ^= hashes >> np.uint64(29)
    some = hashes[hashes % np.uint64(SAMPLED) == 0]
    return some if len(some) else hashes[:1]


def ngrams(text: bytes) -> np.ndarray:
    """The sampled n-grams of a text, each once, rising, uint64 [n]."""
    return np.unique(_hashes(text))


def _sketch(grams: np.ndarray) -> MinHash:
    sketch = MinHash(PERMUTATIONS, seed=1, hashfunc=int, scheme="affine64")
    for start in range(0, len(grams), 1 << 14):  # the library holds 128 numbers for each
        sketch.update_batch(grams[start : start + (1 << 14)])
    return sketch


@dataclass(frozen=True)
class Match:
    """What a document of the pool shares with one of the evaluation part.

    Attributes:
        document: the number of the document for evaluation.
        kind: `near-duplicate` or `quotation`.
        share: the Jaccard similarity of their n-grams as MinHash estimates it, or the share of the
            document for evaluation that is quoted.
    """

    document: int
    kind: str
    share: float


class Overlap:
    """The evaluation part's n-grams, and what of them occurs in the pool.

    Args:
        texts: the documents for evaluation, UTF-8.
        threshold: the share from which on two documents match.
        policy: `report`, or `remove` where documents that match are not for the pool, so that they
            do not count as occurring there.
    """

    def __init__(self, texts: Iterable[bytes], threshold: float, policy: str = "report"):
        self._threshold, self._policy = threshold, policy
        self._lsh = MinHashLSH(threshold, PERMUTATIONS)
        self._sketches, grams, owners = [], [], []
        for number, text in enumerate(texts):
            own = ngrams(text)
            self._sketches.append(_sketch(own))
            self._lsh.insert(number, self._sketches[-1])
            grams.append(own)
            owners.append(np.full(len(own), number))
        self._largest = max(map(len, grams), default=0) / threshold
        # An n-gram of several documents belongs to the first.
        every = np.concatenate([*grams, np.empty(0, np.uint64)])
        self._grams, first = np.unique(every, return_index=True)
        self._owners = np.concatenate([*owners, np.empty(0, int)])[first]
        self._sizes = np.maximum(np.bincount(self._owners, minlength=len(grams)), 1)
        self._seen = np.zeros(len(self._grams), bool)
        self._filter = np.zeros(1 << _FILTER_BITS, bool)
        self._filter[self._slots(self._grams)] = True

    @staticmethod
    def _slots(grams: np.ndarray) -> np.ndarray:
        return grams >> np.uint64(64 - _FILTER_BITS)

    @property
    def share(self) -> float:
        """The share of the evaluation part's n-grams that occur in the texts matched so far."""
        return float(self._seen.mean()) if len(self._seen) else 0.0

    def match(self, text: bytes) -> Match | None:
        """The document for evaluation that a text of the pool matches best, if it matches one."""
        hashes = _hashes(text)
        places = self._places(hashes)
        if not len(places):
            return None
        shares = np.bincount(self._owners[places], minlength=len(self._sizes)) / self._sizes
        # Similar documents share most of both; the library's estimate may err by a third.
        best = None
        if shares.max() >= self._threshold * 2 / 3:
            best = self._near_duplicate(np.unique(hashes))
        if best is None and shares.max() >= self._threshold:
            best = Match(int(shares.argmax()), "quotation", round(float(shares.max()), 3))
        if best is None or self._policy == "report":
            self._seen[places] = True
        return best

    def _near_duplicate(self, grams: np.ndarray) -> Match | None:
        if len(grams) > self._largest:
            return None
        sketch = _sketch(grams)
        found = [(sketch.jaccard(self._sketches[n]), n) for n in self._lsh.query(sketch)]
        similarity, number = max(found, default=(0, None))
        if similarity < self._threshold:
            return None
        return Match(number, "near-duplicate", round(float(similarity), 3))

    def _places(self, hashes: np.ndarray) -> np.ndarray:
        """Which of the evaluation part's n-grams are among some hashes, each once."""
        likely = hashes[self._filter[self._slots(hashes)]]
        if not len(likely):
            return np.empty(0, int)
        likely = np.unique(likely)
        places = np.minimum(np.searchsorted(self._grams, likely), len(self._grams) - 1)
        return places[self._grams[places] == likely]
