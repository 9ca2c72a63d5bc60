"""Tokens of a text, and the windows they are cut into.

As in llama.cpp's tools: the whole text is one stream of tokens that begins with BOS where the
model adds one; windows are contiguous, n_ctx tokens each, and the first token of each is replaced
by BOS (tools/perplexity/perplexity.cpp, tools/imatrix/imatrix.cpp).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
from tqdm import tqdm

from . import QuernError, files
from .llama import VERSION, Model

if TYPE_CHECKING:
    import pandas as pd

PIECE_BYTES = 8 << 20  # a text up to this size is tokenized whole, as the peer's tools do


@dataclass(frozen=True)
class Tokens:
    """A tokenized text.

    Attributes:
        count: number of tokens.
        bos: the token that starts each window, or -1 where the model adds none.
        text_sha256, tokenizer_sha256: what the tokens were made from and with.
        sources: names of the sources that tokens come from; empty where they are not known.
    """

    path: Path
    count: int
    bos: int
    text_sha256: str
    tokenizer_sha256: str
    sources: tuple[str, ...] = ()

    def require_tokenizer(self, sha256: str) -> None:
        """Refuse tokens that another tokenizer made.

        Raises:
            QuernError: the tokenizers differ.
        """
        if self.tokenizer_sha256 != sha256:
            raise QuernError(
                f"{self.path} was made with another tokenizer than the model's; delete it and run "
                "again."
            )

    def n_windows(self, n_ctx: int, limit: int | None = None) -> int:
        """How many whole windows the text has, at most `limit`.

        Raises:
            QuernError: the text is too short for two windows.
        """
        count = self.count // n_ctx
        if count < 2:
            raise QuernError(
                f"{self.path} has {self.count} tokens, too few for two windows of {n_ctx}; "
                "give the corpus more text or use a smaller n_ctx."
            )
        return min(count, limit or count)

    def windows(self, n_ctx: int, numbers: Sequence[int]) -> "Windows":
        """The windows of these numbers, read when they are sliced."""
        return Windows(self, n_ctx, numbers)


class Windows:
    """Windows as a sequence: `len`, `shape`, and slices as int32 [n, n_ctx], BOS in place."""

    def __init__(self, tokens: Tokens, n_ctx: int, numbers: Sequence[int]):
        self._tokens, self._numbers = tokens, numbers
        self.shape = len(numbers), n_ctx

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: slice) -> np.ndarray:
        windows = self._rows("tokens", which, np.int32)
        if self._tokens.bos >= 0:
            windows[:, 0] = self._tokens.bos
        return windows

    @property
    def has_sources(self) -> bool:
        """Whether the tokens' sources are known."""
        return bool(self._tokens.sources)

    def sources(self, which: slice) -> np.ndarray:
        """The index in `Tokens.sources` of each token's source, uint8 [n, n_ctx]."""
        return self._rows("source", which, np.uint8)

    def _rows(self, name, which, dtype):
        n_ctx, numbers = self.shape[1], self._numbers[which]
        rows = np.empty((len(numbers), n_ctx), dtype)
        with h5py.File(self._tokens.path) as h5:
            for row, number in zip(rows, numbers, strict=True):
                row[:] = h5[name][number * n_ctx : (number + 1) * n_ctx]
        return rows


def tokenize(
    model: Model,
    tokenizer_sha256: str,
    text: Path,
    output: Path,
    documents: "pd.DataFrame | None" = None,
    *,
    special: bool = False,
) -> int:
    """Tokenize a text file into `output` (HDF5) piece by piece; return the number of tokens.

    Args:
        documents: where in the text each document begins (`offset`, bytes, rising) and what
            `source` it is from; then each token's source is kept as well.
        special: parse special tokens in the text, instead of taking them as text.

    Raises:
        QuernError: the text is missing, empty or not UTF-8.
    """
    size, count = text.stat().st_size, 0
    if size == 0:
        raise QuernError(f"{text} is empty; give its corpus more text.")
    with files.replacing(output) as temporary, h5py.File(temporary, "w") as h5:
        h5.attrs["text_sha256"] = files.sha256(text)
        h5.attrs["tokenizer_sha256"] = tokenizer_sha256
        h5.attrs["bos"] = model.bos if model.add_bos else -1
        h5.attrs["llama_cpp_python"] = VERSION
        h5.attrs["special"] = special
        stream = h5.create_dataset("tokens", (0,), np.int32, maxshape=(None,), chunks=(1 << 16,))
        labels = _Sources(model, documents, h5) if documents is not None else None
        first = np.array([model.bos] if model.add_bos else [], np.int32)
        with tqdm(total=size, unit="B", unit_scale=True, desc="tokenize", disable=None) as bar:
            for piece in _pieces(text):
                own = model.tokenize(piece, special=special)
                tokens = np.concatenate([first, own])
                stream.resize((count + len(tokens),))
                stream[count:] = tokens
                if labels:
                    labels.append(own, piece, begins_with_bos=len(first) > 0)
                count, first = count + len(tokens), first[:0]
                bar.update(len(piece))
    return count


def read_documents(table: Path | None, text: Path) -> "pd.DataFrame | None":
    """The documents of a part of a corpus, in order, from `documents.csv`.

    Raises:
        QuernError: the table is missing or has no such part.
    """
    if table is None:
        return None
    import pandas as pd  # here, since few stages need it and it takes a third of a second

    try:
        documents = pd.read_csv(table)
        part = documents[documents.part == text.stem]
    except (OSError, ValueError, AttributeError) as error:
        raise QuernError(f"{table} is no table of documents ({error}).") from None
    if part.empty:
        raise QuernError(f"{table} has no documents of the part {text.stem}.")
    return part


class _Sources:
    """Writes dataset `source`, uint8 [tokens], and attribute `sources`, the names."""

    def __init__(self, model: Model, documents: "pd.DataFrame", h5: h5py.File):
        names = list(dict.fromkeys(documents.source))
        if len(names) > 256:
            raise QuernError(f"{len(names)} sources; at most 256 can be told apart.")
        h5.attrs["sources"] = names
        self._begins = documents.offset.to_numpy()
        self._source = np.array([names.index(n) for n in documents.source], np.uint8)
        self._sizes = model.piece_bytes()
        self._data = h5.create_dataset(
            "source", (0,), np.uint8, maxshape=(None,), chunks=(1 << 16,)
        )
        self._offset = 0

    def append(self, tokens: np.ndarray, piece: bytes, *, begins_with_bos: bool) -> None:
        """Label the tokens of the next piece of the text by the byte at which each begins."""
        ends = np.cumsum(self._sizes[tokens])
        begins = self._offset + np.minimum(ends - self._sizes[tokens], len(piece) - 1)
        document = np.searchsorted(self._begins, begins, side="right") - 1
        source = self._source[np.maximum(document, 0)]
        source = np.concatenate([source[:1], source]) if begins_with_bos else source
        count = len(self._data)
        self._data.resize((count + len(source),))
        self._data[count:] = source
        self._offset += len(piece)


def _pieces(text: Path):
    """The bytes of a text, cut only before an empty line once PIECE_BYTES are reached."""
    with open(text, "rb") as file:
        rest = b""
        while block := file.read(PIECE_BYTES):
            rest += block
            cut = rest.rfind(b"\n\n")
            if len(rest) > PIECE_BYTES and cut > 0:
                yield rest[:cut]
                rest = rest[cut:]
        if rest:
            yield rest


def read_tokens(path: Path) -> Tokens:
    """Open a token file.

    Raises:
        QuernError: it is missing, damaged, or no token file.
    """
    try:
        with h5py.File(path) as h5:
            a = h5.attrs
            return Tokens(
                Path(path),
                len(h5["tokens"]),
                int(a["bos"]),
                a["text_sha256"],
                a["tokenizer_sha256"],
                tuple(a.get("sources", ())),
            )
    except FileNotFoundError:
        raise QuernError(f"{path} does not exist.") from None
    except (OSError, KeyError) as error:
        raise QuernError(f"{path} is not a whole token file ({error}); delete it.") from None
