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

from .. import QuernError, files, hdf5
from ..llama import VERSION, Model

if TYPE_CHECKING:
    import pandas as pd

PIECE_BYTES = 8 << 20  # a text up to this size is tokenized whole, as llama.cpp's tools do


@dataclass(frozen=True)
class Tokens:
    """A tokenized text.

    Attributes:
        count: number of tokens.
        bos: the token that starts each window, or -1 where the model adds none.
        text_sha256, tokenizer_sha256: what the tokens were made from and with.
        sources: names of the sources that tokens come from; empty where they are not known.
        n_ctx: the only size of windows that they may be cut into; 0 for any.
    """

    path: Path
    count: int
    bos: int
    text_sha256: str
    tokenizer_sha256: str
    sources: tuple[str, ...] = ()
    n_ctx: int = 0

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
            QuernError: the text is too short for two windows, or was cut into others already.
        """
        if self.n_ctx and n_ctx != self.n_ctx:
            raise QuernError(
                f"{self.path} is mixed from windows of {self.n_ctx} tokens, not of {n_ctx}."
            )
        count = self.count // n_ctx
        if count < 2:
            raise QuernError(
                f"{self.path} has {self.count} tokens, too few for two windows of {n_ctx}; "
                "give the corpus more text or use a smaller n_ctx."
            )
        return min(count, limit or count)

    def n_overlapping(self, n_ctx: int, stride: int, limit: int | None = None) -> int:
        """How many windows there are where each begins `stride` tokens after the one before.

        As many as llama-perplexity has with --ppl-stride, at most `limit`.

        Raises:
            QuernError: the text is too short for two windows, or was cut into windows already.
        """
        if self.n_ctx:
            raise QuernError(
                f"{self.path} is mixed from windows of {self.n_ctx} tokens that do not follow each "
                "other, so none can overlap; leave the stride out."
            )
        count = -(-(self.count - n_ctx) // stride)
        if count < 2:
            raise QuernError(
                f"{self.path} has {self.count} tokens, too few for two windows of {n_ctx} with a "
                f"stride of {stride}; give the corpus more text or use a smaller n_ctx."
            )
        return min(count, limit or count)

    def windows(self, n_ctx: int, numbers: Sequence[int], stride: int | None = None) -> "Windows":
        """The windows of these numbers, read when they are sliced.

        With a `stride` they overlap, and tokens stay as they are, without BOS.
        """
        return Windows(self, n_ctx, numbers, stride)

    def by_source(self) -> dict[str, int]:
        """Number of tokens of each source; empty where they are not known."""
        counts = np.zeros(len(self.sources), np.int64)
        with h5py.File(self.path, locking=False) as h5:
            for start in range(0, self.count if self.sources else 0, 1 << 22):
                some = h5["source"][start : start + (1 << 22)]
                counts += np.bincount(some, minlength=len(counts))
        return dict(zip(self.sources, counts.tolist(), strict=True))


class Windows:
    """Windows as a sequence: `len`, `shape`, and slices as int32 [n, n_ctx], BOS in place."""

    def __init__(
        self, tokens: Tokens, n_ctx: int, numbers: Sequence[int], stride: int | None = None
    ):
        self._tokens, self._numbers = tokens, numbers
        self._step, self._bos = stride or n_ctx, -1 if stride else tokens.bos
        self.shape = len(numbers), n_ctx

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: slice) -> np.ndarray:
        windows = self._rows("tokens", which, np.int32)
        if self._bos >= 0:
            windows[:, 0] = self._bos
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
        with h5py.File(self._tokens.path, locking=False) as h5:
            for row, number in zip(rows, numbers, strict=True):
                row[:] = h5[name][number * self._step : number * self._step + n_ctx]
        return rows


def tokenize_text(
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
    size = text.stat().st_size
    if size == 0:
        raise QuernError(f"{text} is empty; give its corpus more text.")
    known = None if documents is None else list(documents.source.cat.categories)
    with TokenWriter(output, model, tokenizer_sha256, files.sha256(text), known, special) as h5:
        labels = _Labels(model, documents) if known else None
        with tqdm(total=size, unit="B", unit_scale=True, desc="tokenize", disable=None) as bar:
            for piece in _pieces(text):
                tokens = model.tokenize(piece, special=special)
                h5.append(tokens, labels.of(tokens, piece) if labels else None)
                bar.update(len(piece))
        return h5.count


class TokenWriter:
    """A token file as it is written: dataset `tokens`, int32, and `source`, uint8, if known.

    Args:
        text_sha256: of what the tokens are made from.
        sources: names of the sources; None where they are not known.
    """

    def __init__(
        self,
        output: Path,
        model: Model,
        tokenizer_sha256: str,
        text_sha256: str,
        sources: list[str] | None,
        special: bool,
    ):
        self._whole = hdf5.writing(output)
        self._h5 = self._whole.__enter__()
        bos = model.bos if model.add_bos else -1
        self.attributes = self._h5.attrs
        self.attributes.update(
            text_sha256=text_sha256,
            tokenizer_sha256=tokenizer_sha256,
            bos=bos,
            llama_cpp_python=VERSION,
            special=special,
        )
        self._tokens = self._dataset("tokens", np.int32)
        self._source = self._dataset("source", np.uint8) if sources else None
        if sources:
            self.attributes["sources"] = sources
        self._first = np.array([bos] if model.add_bos else [], np.int32)
        self.count = 0

    def _dataset(self, name: str, dtype: type) -> h5py.Dataset:
        return self._h5.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(1 << 16,))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._whole.__exit__(*error)

    def append(self, tokens: np.ndarray, source: np.ndarray | None) -> None:
        """Append tokens, and the number of each one's source; the stream begins with BOS."""
        if self.count == 0 and len(tokens) and tokens[0] not in self._first:
            tokens = np.concatenate([self._first, tokens])
            if source is not None:
                source = np.concatenate([source[: len(self._first)], source])
        hdf5.check(self._h5)
        end = self.count + len(tokens)
        for data, values in ((self._tokens, tokens), (self._source, source)):
            if data is not None:
                data.resize((end,))
                data[self.count :] = values
        self.count = end


def read_documents(table: Path | None, text: Path) -> "pd.DataFrame | None":
    """The documents of a part of a corpus, in order, from `documents.csv`.

    Raises:
        QuernError: the table is missing or has no such part.
    """
    if table is None:
        return None
    import pandas as pd  # here, since few stages need it and it takes a third of a second

    wanted = ("part", "source", "offset", "bytes", "place")
    types = {"part": "category", "source": "category"}
    try:
        chunks = pd.read_csv(
            table, usecols=lambda name: name in wanted, dtype=types, chunksize=1 << 18
        )
        documents = pd.concat(
            [chunk[chunk.part == text.stem].drop(columns="part") for chunk in chunks]
        )
        documents["source"] = pd.Categorical(documents.source, documents.source.unique())
    except (OSError, ValueError, AttributeError) as error:
        raise QuernError(f"{table} is no table of documents ({error}).") from None
    if documents.empty:
        raise QuernError(f"{table} has no documents of the part {text.stem}.")
    if documents.source.nunique() > 256:
        raise QuernError(f"{documents.source.nunique()} sources; at most 256 can be told apart.")
    return documents


class _Labels:
    """Finds the source of each token of a text by the byte at which the token begins."""

    def __init__(self, model: Model, documents: "pd.DataFrame"):
        self._begins = documents.offset.to_numpy()
        self._source = documents.source.cat.codes.to_numpy().astype(np.uint8)
        self._sizes = model.piece_bytes()
        self._offset = 0

    def of(self, tokens: np.ndarray, piece: bytes) -> np.ndarray:
        """Sources of the tokens of the next piece of the text, uint8 [n]."""
        sizes = self._sizes[tokens]
        ends = np.cumsum(sizes)
        # Tokenizers that add a space, and special tokens that take in the space beside them, make
        # the sum differ from the text; then the difference is spread.
        scale = len(piece) / max(1, ends[-1])
        begins = ((ends - sizes) * scale).astype(np.int64)
        begins = self._offset + np.minimum(begins, len(piece) - 1)
        self._offset += len(piece)
        document = np.searchsorted(self._begins, begins, side="right") - 1
        return self._source[np.maximum(document, 0)]


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
    """Open a token file; its content is checked against the hash behind it.

    Raises:
        QuernError: it is missing, damaged, or no token file.
    """
    with hdf5.reading(path, "token file") as h5:
        a, count = h5.attrs, len(h5["tokens"])
        found = Tokens(
            Path(path),
            count,
            int(a["bos"]),
            a["text_sha256"],
            a["tokenizer_sha256"],
            tuple(a.get("sources", ())),
            int(a.get("n_ctx", 0)),
        )
        names = ["tokens", "source"] if found.sources else ["tokens"]
        if any(h5[name].shape != (count,) for name in names):
            raise ValueError("tokens and their sources differ in number")
    return found
