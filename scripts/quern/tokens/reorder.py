"""Other orders of the same tokens.

What is put in order is what windows hold besides BOS. So in each order a model sees
the same tokens, each as often.
"""

import logging
import re
from pathlib import Path

import h5py
import numpy as np

from .. import QuernError
from ..llama import Model
from .windows import Tokens, read_documents

# What ends a sentence: Latin, Chinese, Devanagari, Arabic, Urdu, Ethiopic, Burmese, Khmer.
_ENDS = re.compile("|".join(map(re.escape, ".!?。！？।॥؟۔።။។")).encode())
_BLOCK = 1 << 22  # tokens that are read at once

log = logging.getLogger("quern.reorder")


def contents(tokens: Tokens, n_ctx: int, numbers) -> np.ndarray:
    """What these windows hold besides BOS, int32 [n, n_ctx - 1]; one more without BOS."""
    return tokens.windows(n_ctx, numbers)[:][:, int(tokens.bos >= 0) :]


def random_windows(content: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Windows cut elsewhere, in random order.

    An imatrix is a sum over windows, so their order alone would change nothing. So the text first
    begins at a random place, and goes on from its end with its beginning.

    Args:
        content: int32 [windows, width]; so is the result.
    """
    turned = np.roll(content.ravel(), -int(rng.integers(content.size)))
    return turned.reshape(content.shape)[rng.permutation(len(content))]


def shuffled_tokens(content: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """All tokens in random order, int32 [windows, width]."""
    return rng.permutation(content.ravel()).reshape(content.shape)


def shuffled_sentences(
    content: np.ndarray, ends: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """All sentences in random order, int32 [windows, width].

    Where a window holds less than one, it is said how many there are.

    Args:
        ends: whether a sentence ends with a token, bool [tokens].
    """
    sentence = np.cumsum(ends) - ends  # of each token, from 0
    count = int(sentence[-1]) + 1
    if count < len(content):
        log.warning(
            "shuffled-sentences: the number of pieces in %d windows is %d; a piece ends with a "
            "full stop or the like, or a new line, and this text has few of them",
            *(len(content), count),
        )
    return by_rank(content, sentence, rng.permutation(count))


def by_rank(content: np.ndarray, piece: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Pieces of a text in the order of their ranks, int32 [windows, width].

    Args:
        piece: the number of each token's piece, int [tokens].
        rank: the place of each piece, int [pieces].
    """
    order = np.argsort(rank[piece], kind="stable")
    return content.ravel()[order].reshape(content.shape)


def sentence_ends(model: Model, content: np.ndarray) -> np.ndarray:
    """Whether a sentence ends with each token of a text: by a full stop or the like, or a new line.

    A mark may be of several tokens; it ends with the last of them.

    Args:
        content: int32 [windows, width].

    Returns:
        bool [tokens].
    """
    known = model.pieces(np.arange(model.n_vocab))
    pieces = [known[token] for token in content.ravel()]
    ends = np.cumsum([len(piece) for piece in pieces])
    marks = [found.end() for found in _ENDS.finditer(b"".join(pieces))]
    return np.isin(ends, marks) | np.array([b"\n" in piece for piece in pieces])


def documents_of(
    model: Model, tokens: Tokens, n_ctx: int, windows: int, text: Path, table: Path
) -> tuple[np.ndarray, np.ndarray]:
    """The document of each token of `contents` of the first windows, and each document's place.

    A token is of the document in which its first byte is. Where the tokens' bytes do not add up to
    those of the text (some tokenizers put a space before it), the difference is spread.

    Args:
        text, table: the part's text and `documents.csv`.

    Returns:
        The documents' numbers, int [tokens], and their places in the sources, int [documents].

    Raises:
        QuernError: the table is missing or does not say where documents were.
    """
    documents = read_documents(table, text)
    if "place" not in documents:
        raise QuernError(
            f"{table} does not say where documents were in their sources, since an earlier version "
            "made it; delete it and run again."
        )
    wanted = windows * n_ctx
    begins, total = np.empty(wanted, np.int64), 0
    sizes = model.piece_bytes().astype(np.int64)
    with h5py.File(tokens.path, locking=False) as h5:
        for start in range(0, tokens.count, _BLOCK):
            own = sizes[h5["tokens"][start : start + _BLOCK]]
            if start == 0 and tokens.bos >= 0:
                own[0] = 0  # BOS, which is not in the text
            ends = total + np.cumsum(own)
            some = begins[start : start + _BLOCK]
            some[:] = (ends - own)[: len(some)]
            total = int(ends[-1])
    begins = (begins * (text.stat().st_size / max(1, total))).astype(np.int64)
    number = np.searchsorted(documents.offset.to_numpy(), begins, side="right") - 1
    number = np.maximum(number, 0).reshape(windows, n_ctx)[:, int(tokens.bos >= 0) :]
    return number.ravel(), documents.place.to_numpy()
