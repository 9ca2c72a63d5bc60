"""What a model's folder says of itself beside its weights, as transformers reads it."""

import itertools
import re
from pathlib import Path

import numpy as np

from .safetensors import Tensor, read_json

_PIECE = 1 << 22  # weights that are compared at once
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DRAFTING = re.compile(r"(^|[._])(mtp|nextn)([._]|$)")
_LAYER = re.compile(r"(?:model\.|language_model\.|backbone\.|transformer\.)*(?:layers|h)\.(\d+)\.")


def settings(folder: Path) -> dict:
    """Those of `config.json`; of a model that reads more than text, the text's over the others."""
    found = read_json(folder / "config.json")
    text = found.get("text_config")
    return found | (text if isinstance(text, dict) else {})


def name(folder: Path) -> str:
    """The folder's name; of a snapshot in the hub's cache the repository's."""
    own = folder.absolute()
    if _COMMIT.fullmatch(own.name) and own.parent.name == "snapshots":
        return own.parents[1].name.rpartition("--")[2]
    return own.name


def tied_output(folder: Path, tensors: dict[str, Tensor]) -> tuple[str, str] | None:
    """The names of output and embedding where both are saved and `config.json` ties them.

    transformers then takes the embedding for both.
    """
    if settings(folder).get("tie_word_embeddings") is not True:
        return None
    heads = [name for name in tensors if re.search(r"(^|\.)lm_head\.weight$", name)]
    for head, other in itertools.product(heads, tensors):
        is_embedding = other != head and re.search(r"emb|wte", other)
        if is_embedding and tensors[other].shape == tensors[head].shape:
            return head, other
    return None


def are_equal(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one shape have the same weights, whatever their types."""
    first, second = _stored(a), _stored(b)
    if a.kind == b.kind:
        return np.array_equal(first, second)
    return all(
        np.array_equal(_widened(first[i : i + _PIECE], a), _widened(second[i : i + _PIECE], b))
        for i in range(0, first.size, _PIECE)
    )


def _stored(tensor: Tensor) -> np.ndarray:
    kinds = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}
    dtype = np.dtype(kinds.get(tensor.kind, np.uint8))
    count = (tensor.end - tensor.begin) // dtype.itemsize
    return np.memmap(tensor.path, dtype, "r", tensor.begin, (count,))


def _widened(values: np.ndarray, tensor: Tensor) -> np.ndarray:
    if tensor.kind == "BF16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values


def has_drafting(folder: Path, tensors: dict[str, Tensor]) -> bool:
    """Whether a layer that only predicts a token further (MTP, NextN) is among the weights.

    Models name it so, or number it after the layers of `config.json`. transformers saves none.
    """
    layers = settings(folder).get("num_hidden_layers")
    for name in tensors:
        number = _LAYER.match(name)
        is_further = number and isinstance(layers, int) and int(number[1]) >= layers
        if is_further or _DRAFTING.search(name):
            return True
    return False


def templates(folder: Path) -> dict[str, str]:
    """Chat templates by name, as transformers takes them: `default` is the one that is used.

    A file of its own replaces those of `tokenizer_config.json`. `chat_template.json` is an older
    file, of models that read more than text.
    """
    own = folder / "chat_template.jinja"
    if own.is_file():
        return {"default": own.read_text(encoding="utf-8")}
    for file in ("tokenizer_config.json", "chat_template.json"):
        written = _json(folder / file).get("chat_template")
        if isinstance(written, str):
            return {"default": written}
        if isinstance(written, list):
            return {entry["name"]: entry["template"] for entry in written}
    return {}


def tokens(folder: Path) -> dict[int, str]:
    """Tokens by number: of `tokenizer.json`, and those that were added.

    Of a `tokenizer.model` alone only what was added is known here.
    """
    written = _json(folder / "tokenizer.json")
    vocabulary = (written.get("model") or {}).get("vocab") or {}
    if isinstance(vocabulary, dict):
        found = {number: token for token, number in vocabulary.items()}
    else:
        found = dict(enumerate(entry[0] for entry in vocabulary))  # with scores
    found |= {entry["id"]: entry["content"] for entry in written.get("added_tokens") or ()}
    found |= {number: token for token, number in _json(folder / "added_tokens.json").items()}
    added = _json(folder / "tokenizer_config.json").get("added_tokens_decoder") or {}
    return found | {int(number): entry["content"] for number, entry in added.items()}


def _json(path: Path) -> dict:
    return read_json(path) if path.is_file() else {}
