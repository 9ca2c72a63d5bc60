"""How large a model is where it matters, read from the header of its file in a moment.

The rules read it, so it does without the gguf package (0.25 s to import) and believes what it
reads; whoever opens the model for more checks it, see `gguf_header`. Source: ggml/include/gguf.h.
"""

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from .. import files
from ..remembered import Remembered

_NUMBERS = dict(zip((*range(8), 10, 11, 12), "BbHhIif?Qqd", strict=True))
_STRING, _ARRAY = 8, 9
UNKNOWN = 16 << 30  # bytes of a model that is not there: of an 8B in F16
# Products that share their input with another one of the layer.
_SHARING = ("attn_k.", "attn_v.", "ffn_gate.", "ffn_gate_exps.")


@dataclass(frozen=True)
class Shape:
    """Sizes of a model; all but `bytes` are numbers of weights, columns or tensors.

    Attributes:
        bytes: on disk, all shards.
        weights: of all tensors.
        body: weights of the blocks that a token passes; of the experts, those that it is sent to.
        vocab, width: rows and columns of the output matrix.
        largest: weights of the largest tensor.
        matrices: tensors of the blocks that are quantized.
        columns: of all of them; experts each.
        squares: Σ columns² of the distinct inputs of products, which second moments are made of.
        attention: Σ over layers of the width of all heads.
        cache: numbers that the K/V cache keeps of a token.
    """

    bytes: int
    weights: int = 0
    body: int = 0
    vocab: int = 0
    width: int = 0
    largest: int = 0
    matrices: int = 0
    columns: int = 0
    squares: int = 0
    attention: int = 0
    cache: int = 0

    @property
    def output(self) -> int:
        """Weights of the output matrix."""
        return self.vocab * self.width

    @property
    def experts(self) -> float:
        """How many times more weights the blocks hold than a token passes; 1 without experts."""
        return max(1.0, (self.weights - 2 * self.output) / max(self.body, 1))


def of_tensors(tensors: Mapping[str, tuple[int, ...]], size: int, used: int = 0) -> Shape:
    """The shape of a model.

    Args:
        tensors: columns, rows and matrices of each tensor, by name.
        size: bytes on disk.
        used: experts that a token is sent to.
    """
    matrices = {n: s for n, s in tensors.items() if n.startswith("blk.") and len(s) > 1}
    body = columns = squares = 0
    for name, (width, rows, *rest) in matrices.items():
        experts = math.prod(rest)
        body += width * rows * (min(used or experts, experts))
        columns += width * experts
        squares += 0 if name.split(".", 2)[2].startswith(_SHARING) else width**2 * experts
    rows_of = {part: 0 for part in ("attn_output.", "attn_k.", "attn_v.", "attn_qkv.")}
    for name, shape in matrices.items():
        for part in rows_of:
            if f".{part}" in name:
                rows_of[part] += shape[0] if part == "attn_output." else shape[1]
    attention = rows_of["attn_output."]
    cache = rows_of["attn_k."] + rows_of["attn_v."]
    cache += max(0, rows_of["attn_qkv."] - attention)
    embedding = tensors.get("token_embd.weight", (0, 0))
    width, vocab = tensors.get("output.weight", embedding)[:2]
    sizes = [math.prod(shape) for shape in tensors.values()]
    return Shape(
        bytes=size,
        weights=sum(sizes),
        body=body,
        vocab=vocab,
        width=width,
        largest=max(sizes, default=0),
        matrices=len(matrices),
        columns=columns,
        squares=squares,
        attention=attention,
        cache=cache,
    )


def dense(
    layers: int,
    width: int,
    inner: int,
    kv: int,
    vocab: int,
    heads: int | None = None,
    is_tied: bool = False,
) -> Shape:
    """The shape of a dense model in F16 of the usual architecture (Llama, Qwen, Mistral, Gemma).

    Args:
        inner: width inside a feed-forward network.
        kv: rows of the matrix of keys.
        heads: width of all heads, where it is not that of the model.
        is_tied: the output matrix is the embeddings.
    """
    heads = heads or width
    tensors = {"token_embd.weight": (width, vocab), "output.weight": (width, vocab)}
    if is_tied:
        del tensors["output.weight"]
    for i in range(layers):
        own = {"attn_q": (width, heads), "attn_k": (width, kv), "attn_v": (width, kv)}
        own |= {"attn_output": (heads, width), "ffn_down": (inner, width)}
        own |= {"ffn_gate": (width, inner), "ffn_up": (width, inner)}
        tensors |= {f"blk.{i}.{name}.weight": shape for name, shape in own.items()}
    return of_tensors(tensors, 2 * sum(math.prod(shape) for shape in tensors.values()))


def guessed(size: int) -> Shape:
    """The shape of a file that says nothing: as if it were a Llama 3 in F16 of so many bytes."""
    scale = (size / 16e9) ** (1 / 3)
    whole = [max(1, round(n * scale)) for n in (32, 4096, 14336, 1024)]
    return dense(*whole, vocab=128256) if size > 1e9 else dense(*whole, vocab=32000)


class _Header:
    """Values of a header, one after the other."""

    def __init__(self, data):
        self._data, self._at = data, 8  # after the magic and the version

    def number(self, form: str):
        (value,) = struct.unpack_from(f"<{form}", self._data, self._at)
        self._at += struct.calcsize(f"<{form}")
        return value

    def text(self) -> str:
        size = self.number("Q")
        self._pass(size)
        return self._data[self._at - size : self._at].decode("utf-8", "replace")

    def value(self, kind: int):
        """The next value; None in place of texts and arrays, which are passed over."""
        if kind == _STRING:
            self._pass(self.number("Q"))
        elif kind != _ARRAY:
            return self.number(_NUMBERS[kind])
        else:
            kind, count = self.number("I"), self.number("Q")
            least = 8 if kind == _STRING else struct.calcsize(f"<{_NUMBERS[kind]}")
            self._pass(0 if kind == _STRING else least * count)
            if least * count > len(self._data):
                raise ValueError("an array longer than the file")
            for _ in range(count if kind == _STRING else 0):
                self._pass(self.number("Q"))
        return None

    def _pass(self, size: int) -> None:
        self._at += size


def _read(path: Path) -> tuple[dict[str, tuple[int, ...]], int]:
    """The shapes of a file's tensors by name, and how many experts a token is sent to."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:4] != b"GGUF":
            raise ValueError(path)
        header = _Header(data)
        count, pairs, used = header.number("Q"), header.number("Q"), 0
        for _ in range(pairs):
            key, value = header.text(), header.value(header.number("I"))
            used = value if key.endswith(".expert_used_count") else used
        tensors = {}
        for _ in range(count):
            name, dimensions = header.text(), header.number("I")
            tensors[name] = tuple(header.number("Q") for _ in range(dimensions))
            header.number("I"), header.number("Q")
        return tensors, used


def of_file(path: Path) -> Shape:
    """The shape of a model by the headers of its files; `guessed` where they make no sense."""
    paths = [p for p in files.shards(path) if p.is_file()]
    if not paths:  # it is not fetched yet
        return guessed(UNKNOWN)
    size, tensors, used = sum(p.stat().st_size for p in paths), {}, 0
    try:
        for p in paths:
            found, experts = _read(p)
            tensors, used = tensors | found, used or experts
        return of_tensors(tensors, size, used)
    except (OSError, ValueError, KeyError, IndexError, TypeError, OverflowError, struct.error):
        return guessed(size)


class Shapes:
    """Shapes of users' files, kept in a JSON file and read anew when size or time differ."""

    def __init__(self, cache: Path):
        self._known = Remembered(cache)

    def of(self, path: Path) -> Shape:
        """The shape of a model."""
        parts = [part for part in files.shards(Path(path)) if part.is_file()]
        found = self._known.of(path, parts, lambda: {"shape": asdict(of_file(Path(path)))})
        return Shape(**found["shape"])
