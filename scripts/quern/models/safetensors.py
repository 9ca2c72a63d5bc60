"""Models as folders of safetensors: which files count, whether they are whole, what is in them.

Source: the safetensors format, https://github.com/huggingface/safetensors#format.
"""

import json
import math
import os
import re
import struct
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from .. import QuernError, files

_WEIGHTS = ".safetensors"
_INDEX = "model.safetensors.index.json"
# Weights, settings and tokenizers; a model card, of which the converter takes metadata.
_KEPT = {_WEIGHTS, ".json", ".txt", ".model", ".jinja", ".tiktoken", ".md"}
_OTHERS = ("consolidated", "adapter")  # how weights begin that are no part of the model
_SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})\.safetensors")
_LONGEST_HEADER = 100_000_000  # bytes, by the format


class Tensor(NamedTuple):
    """A tensor of a folder.

    Attributes:
        path: the file.
        kind: F32, F16, BF16, F8_E4M3 …, by the format.
        shape: as PyTorch has it, rows before columns.
        begin, end: bytes of the file.
    """

    path: Path
    kind: str
    shape: tuple[int, ...]
    begin: int
    end: int


def files_of(names: Iterable[str], where: object) -> list[str]:
    """Those files of a folder, sorted, that a model in Hugging Face's layout consists of.

    What lies in further folders does not count. Nor do Mistral's `consolidated` weights, which
    repeat the others, and an adapter's.

    Raises:
        QuernError: there are no such weights or no config.json; `where` names the place.
    """
    names = list(names)
    found = sorted(name for name in names if _counts(PurePosixPath(name)))
    has_weights = any(name.endswith(_WEIGHTS) for name in found)
    if not has_weights and is_adapted(names):
        raise QuernError(
            f"{where} holds an adapter without the model that it adapts; merge the two "
            "(merge_and_unload of peft) and name the folder with the whole model."
        )
    if "config.json" not in found or not has_weights:
        raise QuernError(
            f"{where} has no config.json with *{_WEIGHTS} beside it; name a folder or a repository "
            "that has, or a GGUF file."
        )
    return found


def _counts(path: PurePosixPath) -> bool:
    if path.suffix not in _KEPT or path.name.startswith("."):
        return False
    if path.suffix == _WEIGHTS and path.name.startswith(_OTHERS):
        return False
    return str(path.parent) == "."


def is_adapted(names: Iterable[str]) -> bool:
    """Whether an adapter (LoRA) of peft is among a folder's files."""
    return any(name.startswith(("adapter_config.", "adapter_model")) for name in names)


def files_in(folder: Path) -> list[str]:
    """`files_of` a folder that is here, once all of them are.

    Raises:
        QuernError: it is no model, a file is a pointer of git-lfs, or a shard is missing.
        OSError: it cannot be read.
    """
    folder = Path(folder)
    found = files_of(os.listdir(folder), folder)
    for name in found:
        if files.is_pointer(folder / name):
            raise QuernError(
                f"{folder / name} is a pointer of git-lfs and not the file that it stands for; "
                f"run `git lfs pull` in {folder}."
            )
    for name in _weights(folder, found):
        if not (folder / name).is_file():
            raise QuernError(
                f"{folder} lacks {name}, a part of its weights; fetch it, or the whole folder anew."
            )
    return found


def _weights(folder: Path, names: Iterable[str]) -> list[str]:
    """The files with weights that llama.cpp's converter reads, in its order; some may be missing.

    Where there is an index, it decides; else all that begin with `model`.
    """
    if (folder / _INDEX).is_file():
        places = read_json(folder / _INDEX).get("weight_map")
        if not isinstance(places, dict) or not all(isinstance(p, str) for p in places.values()):
            raise QuernError(f"{folder / _INDEX} has no weight_map; fetch it anew.")
        return sorted(set(places.values()))
    found = {name for name in names if name.startswith("model") and name.endswith(_WEIGHTS)}
    for shard in filter(None, map(_SHARD.fullmatch, list(found))):
        total = int(shard[2])
        found |= {f"{shard[1]}-{i:05}-of-{total:05}{_WEIGHTS}" for i in range(1, total + 1)}
    return sorted(found)


def left_out(folder: Path) -> list[str]:
    """Files with weights that count, but are not read: the index does not name them."""
    names = files_in(folder)
    read = _weights(folder, names)
    return [name for name in names if name.endswith(_WEIGHTS) and name not in read]


def read_json(path: Path) -> dict:
    """An object of JSON.

    Raises:
        QuernError: the file holds none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise QuernError(f"{path} is no JSON ({error}); fetch it anew.") from None
    if not isinstance(content, dict):
        raise QuernError(f"{path} holds no object of JSON; fetch it anew.")
    return content


def tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors that a conversion reads, by name.

    Raises:
        QuernError: a file is no safetensors or cut short, or there are none.
    """
    folder = Path(folder)
    found = {}
    for name in _weights(folder, os.listdir(folder)):
        found |= _tensors(folder / name)
    if not found:
        raise QuernError(f"{folder} has no weights that llama.cpp's converter reads.")
    return found


def weights_by_type(found: dict[str, Tensor]) -> dict[str, int]:
    """Weights of the matrices among tensors by type (BF16, F16, F32 …), most first."""
    count = Counter()
    for tensor in found.values():
        if len(tensor.shape) > 1:
            count[tensor.kind] += math.prod(tensor.shape)
    return dict(count.most_common())


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        with open(path, "rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            if size > _LONGEST_HEADER:
                raise ValueError("a header of such a length")
            header = json.loads(file.read(size))
        found = {
            name: Tensor(
                path,
                entry["dtype"],
                tuple(entry["shape"]),
                *(8 + size + at for at in entry["data_offsets"]),
            )
            for name, entry in header.items()
            if name != "__metadata__"
        }
        length = path.stat().st_size
        if not all(0 <= t.begin <= t.end <= length for t in found.values()):
            raise ValueError("tensors reach beyond its end")
        return found
    except (struct.error, ValueError, TypeError, KeyError, AttributeError) as error:
        raise QuernError(f"{path} is no safetensors, or cut short ({error}).") from None
