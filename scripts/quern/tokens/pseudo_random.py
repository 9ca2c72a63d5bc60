"""Text at random: of tokens, of words, of bytes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from .. import QuernError
from ..llama import Model

PRINTABLE = np.arange(32, 127, dtype=np.uint8)  # of ASCII, with the space
_DRAWN = 4096  # bytes, or words, that are drawn at once


def random_tokens(model: Model, count: int, rng: np.random.Generator) -> np.ndarray:
    """Tokens that stand for text, drawn uniformly from the vocabulary, int32 [count]."""
    return rng.choice(model.text_tokens(), count)


def random_bytes(model: Model, count: int, rng: np.random.Generator) -> np.ndarray:
    """Tokens of printable ASCII characters, drawn uniformly, int32 [count]."""
    return _tokenized(model, count, lambda: rng.choice(PRINTABLE, _DRAWN).tobytes())


def random_words(model: Model, count: int, rng: np.random.Generator, text: Path) -> np.ndarray:
    """Tokens of words, drawn uniformly from the distinct ones of a text, int32 [count].

    Raises:
        QuernError: the text has no words.
    """
    words = distinct_words(text)
    if not words:
        raise QuernError(f"{text} has no words; give its corpus more text.")

    def drawn():
        return "".join(f" {words[i]}" for i in rng.integers(len(words), size=_DRAWN)).encode()

    return _tokenized(model, count, drawn)


def distinct_words(text: Path) -> list[str]:
    """The words of a text that are distinct, by what stands between them, sorted."""
    with open(text, encoding="utf-8", newline="\n") as file:
        return sorted({word for line in file for word in line.split()})


def _tokenized(model: Model, count: int, drawn: Callable[[], bytes]) -> np.ndarray:
    """The first tokens of pieces of text, int32 [count]."""
    pieces, have = [], 0
    while have < count:
        pieces.append(model.tokenize(drawn()))
        have += len(pieces[-1])
    return np.concatenate(pieces)[:count]
