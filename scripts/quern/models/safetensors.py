"""Models as folders of safetensors: which files count, and in which type the weights are.

Source: the safetensors format, https://github.com/huggingface/safetensors#format.
"""

import json
import math
import struct
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from .. import QuernError

_WEIGHTS = ".safetensors"
# Weights, settings and tokenizers; a model card, of which the converter takes metadata.
_KEPT = {_WEIGHTS, ".json", ".txt", ".model", ".jinja", ".tiktoken", ".md"}
_LONGEST_HEADER = 100_000_000  # bytes, by the format


def files_of(names: Iterable[str], where: object) -> list[str]:
    """Those files of a folder, sorted, that a model in Hugging Face's layout consists of.

    What lies in further folders does not count, nor do Mistral's `consolidated` weights, which
    repeat the others.

    Raises:
        QuernError: there are no such weights or no config.json; `where` names the place.
    """
    found = sorted(
        name
        for name in names
        if "/" not in name
        and not name.startswith((".", "consolidated"))
        and PurePosixPath(name).suffix in _KEPT
    )
    if "config.json" not in found or not any(name.endswith(_WEIGHTS) for name in found):
        raise QuernError(
            f"{where} has no config.json with *{_WEIGHTS} beside it; name a folder or a repository "
            "that has, or a GGUF file."
        )
    return found


def weights_by_type(folder: Path) -> dict[str, int]:
    """Weights of the matrices of a folder's safetensors by type (BF16, F16, F32 …), most first.

    Raises:
        QuernError: a file is no safetensors.
    """
    count = Counter()
    for path in sorted(Path(folder).glob(f"*{_WEIGHTS}")):
        if path.name.startswith("consolidated"):
            continue
        for tensor in _header(path).values():
            if len(tensor.get("shape", ())) > 1:
                count[tensor["dtype"]] += math.prod(tensor["shape"])
    return dict(count.most_common())


def _header(path: Path) -> dict:
    """Type, shape and place of each tensor by name."""
    try:
        with open(path, "rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            if size > _LONGEST_HEADER:
                raise ValueError("a header of such a length")
            return json.loads(file.read(size))
    except (struct.error, ValueError) as error:
        raise QuernError(f"{path} is no safetensors, or cut short ({error}).") from None
