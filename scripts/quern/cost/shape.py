"""How large a model is where it matters, read from the header of its file in a moment.

The rules read it, so it does without the gguf package, which takes 0.25 s to import.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from .. import QuernError, files, gguf_header
from ..remembered import Remembered

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


def of_file(path: Path) -> Shape:
    """The shape of a model by the headers of its files; `guessed` where they make no sense."""
    paths = [p for p in files.shards(path) if p.is_file()]
    if not paths:  # it is not fetched yet
        return guessed(UNKNOWN)
    size, tensors, used = sum(p.stat().st_size for p in paths), {}, 0
    try:
        for p in paths:
            header = gguf_header.read(p)
            tensors |= {tensor.name: tensor.shape for tensor in header.tensors}
            experts = [key for key in header.fields if key.endswith(".expert_used_count")]
            used = used or max(map(header.get, experts), default=0)
        return of_tensors(tensors, size, used)
    except (QuernError, ValueError, IndexError, TypeError):  # names or metadata of no known model
        return guessed(size)


def columns_of(path: Path) -> dict[str, int]:
    """Columns of each matrix of a model, by name; none where its headers cannot be read."""
    try:
        headers = [gguf_header.read(p) for p in files.shards(path)]
    except (QuernError, OSError):
        return {}
    tensors = [tensor for header in headers for tensor in header.tensors]
    return {tensor.name: tensor.shape[0] for tensor in tensors if len(tensor.shape) > 1}


class Shapes:
    """Shapes of users' files, kept in a JSON file and read anew when size or time differ."""

    def __init__(self, cache: Path):
        self._known = Remembered(cache)

    def of(self, path: Path) -> Shape:
        """The shape of a model."""
        parts = [part for part in files.shards(Path(path)) if part.is_file()]
        found = self._known.of(path, parts, lambda: {"shape": asdict(of_file(Path(path)))})
        return Shape(**found["shape"])
