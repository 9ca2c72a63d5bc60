"""A mix that was found, as other stages read it."""

from pathlib import Path

from .. import QuernError, forms
from ..ggml_types import TENSOR_TYPES

_FIGURE = forms.record(value=forms.NUMBER, low=forms.NUMBER, high=forms.NUMBER)
_MEASURED = forms.record(kld_mean=_FIGURE)
_FORM = forms.record(
    size=forms.TEXT,
    budget=forms.COUNT,
    tensor_bytes=forms.COUNT,
    file_bytes=forms.COUNT,
    chosen=forms.TEXT,
    base=forms.TEXT,
    rounding=forms.TEXT,
    tensors=forms.named(
        forms.record(
            type={"enum": list(TENSOR_TYPES)},
            bytes=forms.COUNT,
            weights=forms.COUNT,
            damage=forms.NOT_NEGATIVE,
            probe_damage={"anyOf": [forms.NOT_NEGATIVE, {"type": "null"}]},
        )
    ),
    predicted=forms.record(kld=forms.NOT_NEGATIVE),
    measured=_MEASURED,
    rivals={
        "type": "object",
        "additionalProperties": forms.record(bytes=forms.COUNT, measured=_MEASURED),
    },
    model_sha256=forms.SHA256,
)


def read(path: Path, model_sha256: str | None = None) -> dict:
    """What mix.py wrote of a mix that there is.

    Args:
        model_sha256: of the model that it must be of, where that is known.

    Raises:
        QuernError: it is missing, damaged, impossible, or of another model.
    """
    found = forms.read(path, _FORM)
    if model_sha256 not in (None, found["model_sha256"]):
        raise QuernError(f"{path} is of another model; delete it and run again.")
    tensors = sum(row["bytes"] for row in found["tensors"].values())
    if not tensors <= found["tensor_bytes"] < found["file_bytes"]:
        said = f"tensor_bytes: {found['tensor_bytes']}, of which {tensors} are of the tensors named"
        raise forms.impossible(path, said)
    return found
