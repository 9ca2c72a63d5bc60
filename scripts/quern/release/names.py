"""Names of released files by ggml's convention, BaseName-SizeLabel-FineTune-Version-Encoding.gguf.

Source: ggml/docs/gguf.md, carried out by the gguf package's own functions.
"""

import re
from collections import Counter
from collections.abc import Mapping

from gguf import Metadata
from gguf.utility import naming_convention, size_label

from .. import QuernError
from ..gguf_files import GgufFile, field

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


def stem(reader: GgufFile, name: str | None = None) -> str:
    """What the names of a model's files begin with: all but the encoding.

    Args:
        reader: of the model, or of one that was quantized from it.
        name: the stem where the user gives it.

    Raises:
        QuernError: the metadata hold no name, or one that is none for a file.
    """
    found = name or _convention(reader)
    if found is None:
        raise QuernError(
            "the model says neither general.basename nor general.name, so its files cannot be "
            "named; give `release: name:` in the configuration."
        )
    if not _SAFE.fullmatch(found):
        raise QuernError(
            f"{found!r} cannot begin the names of files (letters, digits, dots, dashes, plus signs "
            "and underscores can); give another `release: name:` in the configuration."
        )
    return found


def _convention(reader: GgufFile) -> str | None:
    keys = ("basename", "size_label", "finetune", "version", "name")
    base, size, tune, version, whole = (
        str(field(reader, f"general.{key}", "")).strip() or None for key in keys
    )
    counts = _parameters(reader)
    if not base:
        if not whole:
            return None
        words = whole.replace(" ", "-")
        _, _, base, *others = Metadata.get_model_id_components(words, counts[0])
        tune, version, size = (
            own or found for own, found in zip((tune, version, size), others, strict=True)
        )
    return naming_convention(whole, base, tune, version, size or size_label(*counts), None)


def _parameters(reader: GgufFile) -> tuple[int, int, int, int]:
    """Weights in all, outside the experts, of one expert; number of experts."""
    total = shared = expert = 0
    experts = set()
    for tensor in reader.tensors:
        size = tensor.n_elements
        total += size
        if "_exps." in tensor.name and len(tensor.shape) > 2:
            expert += size // tensor.shape[2]
            experts.add(tensor.shape[2])
        else:
            shared += size
    return total, shared, expert, max(experts, default=0)


def encodings(labels: Mapping[str, str]) -> dict[str, str]:
    """The encoding in the names of some recipes' files, each another.

    A recipe that is the only one of its type has the type. Of several, each has its whole name,
    with `_` for all but letters and digits.

    Args:
        labels: the type of each recipe, or what stands for one, by the recipe's name.

    Raises:
        QuernError: two recipes would have one name.
    """
    plain = {name: _encoding(label) for name, label in labels.items()}
    several = Counter(plain.values())
    found = {n: e if several[e] == 1 else _encoding(n) for n, e in plain.items()}
    for encoding, count in Counter(found.values()).items():
        if count > 1:
            same = " and ".join(name for name, own in found.items() if own == encoding)
            raise QuernError(
                f"the files of {same} would both be called {encoding}; name fewer recipes under "
                "`release: recipes:`, or give one of them a variant of another name."
            )
    return found


def _encoding(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", text).upper()
