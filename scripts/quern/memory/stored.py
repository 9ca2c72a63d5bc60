"""What was computed of a recipe's memory, as other stages read it."""

from pathlib import Path

from .. import QuernError, forms

_FORM = forms.record(
    recipe=forms.TEXT,
    tensor_bytes=forms.COUNT,
    repacked_bytes=forms.COUNT_OR_NONE,
    contexts=forms.some(
        forms.record(
            n_ctx=forms.COUNT,
            kv_type=forms.TEXT,
            kv_bytes=forms.COUNT_OR_NONE,  # none where a model keeps no tokens
            compute_bytes=forms.COUNT_OR_NONE,
            total_bytes=forms.COUNT,
        )
    ),
    provenance=forms.record(sha256=forms.SHA256),
)


def read(path: Path, sha256: str | None = None) -> dict:
    """What memory.py wrote of a recipe that could be made.

    Args:
        sha256: of the file that it must be of, where that is known.

    Raises:
        QuernError: it is missing, damaged, impossible, or of another file.
    """
    found = forms.read(path, _FORM)
    if sha256 is not None:
        require_of(found, sha256, path)
    weights = found["tensor_bytes"] + found["repacked_bytes"]
    for context in found["contexts"]:
        parts = weights + context["kv_bytes"] + context["compute_bytes"]
        if context["total_bytes"] != parts:
            raise forms.impossible(
                path, f"total_bytes: {context['total_bytes']} is not {parts}, the sum of its parts"
            )
    return found


def require_of(found: dict, sha256: str, where: object) -> None:
    """Refuse what was computed of another file than this one; `where` is named.

    Raises:
        QuernError: it was.
    """
    if found["provenance"]["sha256"] != sha256:
        raise QuernError(f"{where} is of another file than was measured; delete it and run again.")
