"""What the vocabularies of two GGUF files have in common.

Publishers pad a vocabulary with tokens that nothing uses, or add metadata to it. Its tokens still
mean the same then, and two models can be compared over those that both have.
"""

from pathlib import Path
from typing import NamedTuple

from gguf import TokenType

from . import QuernError
from .gguf_files import GgufFile, field, open_gguf

_ARRAYS = {"token_type": "type", "scores": "score"}  # one entry a token, and what it is called


class Common(NamedTuple):
    """The tokens that two vocabularies share.

    Attributes:
        count: they are the first so many of both.
        said: a sentence on how the vocabularies differ beyond; empty where they do not.
    """

    count: int
    said: str


def common(baseline: Path, other: Path) -> Common:
    """The common tokens of a baseline and another file of the same model (first shards).

    What only one file says of its tokens (types, scores, merges) is added metadata. Beyond the
    common tokens each file may have more of any kind, or both may have unused ones.

    Raises:
        QuernError: the vocabularies differ by more than that; the sentence names the first token
            that differs, or says that merges do.
    """
    one, two = open_gguf(baseline), open_gguf(other)
    names, others = (_entries(reader, "tokens") or [] for reader in (one, two))
    count = min(len(names), len(others))
    differing = [(_first_difference(names, others), "text")]
    added = []
    for key, what in _ARRAYS.items():
        pair = _entries(one, key), _entries(two, key)
        if None not in pair:
            differing.append((_first_difference(*pair), what))
        elif pair != (None, None):
            added.append(key)
    first, why = min(differing, key=lambda found: found[0])
    if first < count:
        if not (_unused_from(one, first) and _unused_from(two, first)):
            texts = " and ".join(repr(_text(tokens[first])) for tokens in (names, others))
            raise QuernError(
                f"{other} has another vocabulary than {baseline}: token {first} differs by its "
                f"{why} ({texts}); they are not the same model."
            )
        count = first
    merges = [_entries(reader, "merges") for reader in (one, two)]
    if None in merges:
        added += ["merges"] if merges != [None, None] else []
    elif merges[0] != merges[1]:
        raise QuernError(
            f"{other} has another vocabulary than {baseline}: its merges differ; they are not the "
            "same model."
        )
    if not count:
        raise QuernError(f"{other} and {baseline} have no token in common.")
    return Common(count, _said(count, len(names), len(others), added))


def _said(count: int, before: int, now: int, added: list[str]) -> str:
    parts = []
    if count < max(before, now):
        parts.append(
            f"Compared over the {count:,} tokens that both vocabularies have, with probabilities "
            f"that add up to 1 over these (the baseline has {before - count:,} more, this file "
            f"{now - count:,})."
        )
    if added:
        parts.append(f"Only one of both vocabularies has {', '.join(added)}.")
    return " ".join(parts)


def _entries(reader: GgufFile, name: str) -> list[bytes] | None:
    """The entries of an array of the tokenizer, as their bytes; None where it is not there."""
    entry = reader.header.fields.get(f"tokenizer.ggml.{name}")
    return None if entry is None else entry.parts


def _first_difference(one: list[bytes], two: list[bytes]) -> int:
    """The first index at which two lists differ, or the shorter one's length."""
    pairs = enumerate(zip(one, two, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(two)))


def _unused_from(reader: GgufFile, first: int) -> bool:
    """Whether all tokens from one on are marked as unused."""
    kinds = field(reader, "tokenizer.ggml.token_type", [])[first:]
    return bool(kinds) and all(kind == TokenType.UNUSED for kind in kinds)


def _text(token: bytes) -> str:
    return token.decode(errors="replace")
