"""A converted model beside the folder that it was made of: what is not the same."""

import math
from collections import Counter
from pathlib import Path

from .. import gguf_header
from ..gguf_header import Header
from . import folder as folders
from .safetensors import Tensor, weights_by_type

# ggml's numbers of the types that hold the weights of a type of safetensors as they are.
_F32, _F16, _BF16 = 0, 1, 30
_HOLD = {"F32": {_F32}, "F16": {_F32, _F16}, "BF16": {_F32, _BF16}}


def differences(folder: Path, tensors: dict[str, Tensor], model: Path) -> list[str]:
    """What of types, tokens, template and name differs, a sentence each.

    Args:
        tensors: of the folder.
        model: the GGUF.
    """
    header = gguf_header.read(model)
    return [
        *_types(folder, tensors, header),
        *_tokens(folder, header),
        *_template(folder, header),
        *_name(folder, header),
    ]


def _types(folder: Path, tensors: dict[str, Tensor], header: Header):
    """Names differ and tensors are joined, so types are compared by how many weights have them."""
    wanted, found = weights_by_type(tensors), Counter()
    for tensor in header.tensors:
        if len(tensor.shape) > 1:
            found[tensor.type] += math.prod(tensor.shape)
    # Of models that see and hear, the part for text is converted.
    dropped = max(0, sum(wanted.values()) - found.total())
    for kind, kept_by in _HOLD.items():
        kept = sum(found[number] for number in kept_by)
        if (lost := wanted.get(kind, 0) - kept - dropped) > 0:
            yield f"at least {lost} weights that are {kind} in {folder} were rounded."
    ties = folders.settings(folder).get("tie_word_embeddings") is True
    if ties and any(tensor.name == "output.weight" for tensor in header.tensors):
        yield (
            f"{folder}/config.json ties the output to the embedding (tie_word_embeddings), and the "
            "GGUF has an output of its own."
        )


def _tokens(folder: Path, header: Header):
    written = header.get("tokenizer.ggml.tokens", [])
    wrong = {
        number: token
        for number, token in folders.tokens(folder).items()
        if number >= len(written) or _plain(written[number]) != _plain(token)
    }
    if wrong:
        number, token = min(wrong.items())
        instead = f"is {written[number]!r}" if number < len(written) else "is missing"
        yield (
            f"{len(wrong)} tokens of {folder} are others in the GGUF; the first is {number}, "
            f"{token!r}, which {instead} there."
        )


def _plain(token: str) -> str:
    """The converter writes the spaces of added tokens as such, and strips some."""
    return token.replace("▁", " ").strip() or token


def _template(folder: Path, header: Header):
    template = folders.templates(folder).get("default")
    if template is not None and header.get("tokenizer.chat_template") != template:
        yield f"the chat template of the GGUF is not that of {folder}."


def _name(folder: Path, header: Header):
    """Model cards and `_name_or_path` of config.json may name another."""
    written, own = str(header.get("general.name", "")), folders.name(folder)
    if _letters(written) != _letters(own):
        yield (
            f"the GGUF calls the model {written!r} and its folder {own!r}; mend the name in "
            f"{folder}/README.md (name, model_name) or config.json (_name_or_path) if it is wrong."
        )


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name)).casefold()
