"""The types of a file's tensors, written and read as `llama-quantize --tensor-type-file` does.

Such a file holds words `PATTERN=TYPE`, a regular expression on a tensor's name each; the first
match counts (llama.cpp, tools/quantize/quantize.cpp).
"""

import logging
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from .. import QuernError, llama
from ..ggml_types import TENSOR_TYPES, UNQUANTIZED
from ..gguf_files import GgufTensor, field, open_gguf, tensors_of
from . import patterns
from .recipes import KEY, MIXED

log = logging.getLogger("quern.quantize")


def text(types: Mapping[str, str]) -> str:
    """Types by tensor as `--tensor-type-file` reads them."""
    return "".join(f"^{re.escape(name)}$={kind.lower()}\n" for name, kind in types.items())


def base_of(weights: Iterable[tuple[str, int]]) -> str:
    """The stock mix whose name a file takes, by the type that most of its weights have.

    Args:
        weights: of each tensor its type and its number of weights.
    """
    counts = Counter()
    for kind, count in weights:
        counts[kind] += count
    most = max(sorted(counts), key=counts.get)
    # Where the base is a float type, llama.cpp looks at no tensor's own.
    return MIXED if most in UNQUANTIZED else TENSOR_TYPES[most].file or most


def read(path: Path, tensors: Mapping[str, GgufTensor]) -> tuple[str, dict[str, str]]:
    """What a file says of a model's types: a GGUF of the same model, or a `--tensor-type-file`.

    Such a text may name norms, and tensors of other models, as llama-quantize allows.

    Args:
        tensors: of the unquantized model.

    Returns:
        A type of llama-quantize for the whole, and the type of each matrix.

    Raises:
        QuernError: the file is damaged or of another model, a word of it makes no sense, or it says
            nothing of a matrix.
    """
    with open(path, "rb") as file:
        is_gguf = file.read(4) == b"GGUF"
    wanted = {n: t for n, t in tensors.items() if len(t.shape) > 1}
    types = _of_gguf(path, wanted) if is_gguf else _of_text(path, tensors)
    if silent := [name for name in wanted if name not in types]:
        remedy = "is it of another model?" if is_gguf else "end it with a line such as .*=q4_k"
        raise QuernError(f"{path} says nothing of the type of {silent[0]}; {remedy}")
    named = _named(path) if is_gguf else ""
    return named or base_of((types[n], int(t.n_elements)) for n, t in wanted.items()), types


def of_gguf(path: Path) -> dict[str, str]:
    """The type of each matrix of a GGUF (first shard)."""
    return {n: t.tensor_type.name for n, t in tensors_of(path).items() if len(t.shape) > 1}


def command(path: Path, type_file: Path) -> tuple[str, list[str]]:
    """The command by which stock llama.cpp makes a GGUF's tensors again, and what to know of it.

    Args:
        path: the quantized GGUF.
        type_file: where its types are written.
    """
    reader = open_gguf(path)
    imatrix = field(reader, "quantize.imatrix.file")
    types = tensors_of(path).values()
    base = _named(path) or base_of((t.tensor_type.name, int(t.n_elements)) for t in types)
    words = ["llama-quantize", "--tensor-type-file", str(type_file)]
    words += ["--imatrix", str(path.parent / imatrix)] if imatrix else []
    notes = []
    if rounding := field(reader, KEY):
        notes.append(f"{path} was rounded again ({rounding}); this makes what it was before.")
    return f"{shlex.join(words)} UNQUANTIZED.gguf QUANTIZED.gguf {base}", notes


def _of_gguf(path: Path, wanted: Mapping[str, GgufTensor]) -> dict[str, str]:
    found = tensors_of(path)
    for name, tensor in wanted.items():
        if name in found and found[name].shape[0] != tensor.shape[0]:
            raise QuernError(
                f"{path} is of another model: the rows of {name} have {found[name].shape[0]} "
                f"weights, not {tensor.shape[0]}."
            )
    return {name: found[name].tensor_type.name for name in wanted if name in found}


def _of_text(path: Path, tensors: Mapping[str, GgufTensor]) -> dict[str, str]:
    pairs = []
    try:
        words = path.read_text(encoding="utf-8").split()
    except UnicodeDecodeError:
        raise QuernError(f"{path} is neither a GGUF nor a text of tensor types.") from None
    for word in words:
        pattern, _, kind = word.partition("=")
        if not pattern or kind.upper() not in llama.target_types():
            raise QuernError(
                f"{path}: {word} is not of the form PATTERN=TYPE, with a type such as q4_k."
            )
        pairs.append((pattern, kind.upper()))
    types = dict(reversed(pairs))  # of a pattern that occurs twice, the first counts
    by_name = patterns.matches(pairs, list(tensors))
    if idle := patterns.idle(pairs, by_name):
        log.warning(
            "%s: %d of %d patterns match no tensor of the model, such as %s.",
            *(path, len(idle), len(pairs), idle[0]),
        )
    found = {name: types[first] for name, (first, *_) in by_name.items()}
    return {name: kind for name, kind in found.items() if len(tensors[name].shape) > 1}


def _named(path: Path) -> str:
    """The type of llama-quantize that a GGUF names, if it is a quantized one; else nothing."""
    number = field(open_gguf(path), "general.file_type")
    names = [name for name, n in llama.quantization_types().items() if n == number]
    name = max(names, key=len, default="")
    return "" if name in UNQUANTIZED else name
