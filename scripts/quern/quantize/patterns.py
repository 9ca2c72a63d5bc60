"""Regular expressions on tensors' names, as llama-quantize's `--tensor-type` takes them.

They are matched here and llama.cpp gets names, since its own matching knows no limit in time.
"""

from collections.abc import Sequence

import regex

from .. import RecipeError

_SECONDS = 1.0  # for a pattern and a name


def require_sense(patterns: Sequence[str]) -> None:
    """Refuse patterns that are no regular expressions, or that llama-quantize reads otherwise.

    Raises:
        RecipeError: the sentence names the pattern.
    """
    for pattern in patterns:
        _compiled(pattern)


def _compiled(pattern: str) -> regex.Pattern:
    # llama-quantize makes patterns lower-case (tools/quantize/quantize.cpp), classes included.
    if found := regex.search(r"\\[A-Z]", pattern.replace("\\\\", "")):
        raise RecipeError(
            f"tensor_types: llama-quantize reads {found[0]} in {pattern} as {found[0].lower()}; "
            "write a class such as [^0-9] instead."
        )
    try:
        return regex.compile(pattern.lower())
    except regex.error as error:
        raise RecipeError(f"tensor_types: {pattern} is no regular expression ({error}).") from None


def matched(pairs: Sequence[tuple[str, str]], names: Sequence[str]) -> dict[str, list[str]]:
    """As `matches`, where each pattern must match.

    Raises:
        RecipeError: a pattern matches no name, or takes too long.
    """
    found = matches(pairs, names)
    if unused := idle(pairs, found):
        raise RecipeError(
            f"tensor_types: {unused[0]} matches no tensor of the model; its tensors are "
            f"{', '.join(names[:8])}, …"
        )
    return found


def matches(pairs: Sequence[tuple[str, str]], names: Sequence[str]) -> dict[str, list[str]]:
    """The patterns that match each tensor's name, in their order; tensors without are left out.

    Raises:
        RecipeError: a pattern is no regular expression, or takes too long.
    """
    found: dict[str, list[str]] = {}
    for pattern, _ in pairs:
        compiled = _compiled(pattern)
        for name in names:
            try:
                if compiled.search(name, timeout=_SECONDS):
                    found.setdefault(name, []).append(pattern)
            except TimeoutError:
                raise RecipeError(
                    f"tensor_types: {pattern} takes longer than {_SECONDS:g} s on {name}; "
                    "write it without nested repetitions."
                ) from None
    return found


def idle(pairs: Sequence[tuple[str, str]], found: dict[str, list[str]]) -> list[str]:
    """The patterns that match no name, where `found` is what `matches` gave."""
    used = {pattern for of_name in found.values() for pattern in of_name}
    return [pattern for pattern, _ in pairs if pattern not in used]
