"""What llama.cpp says of a model when it loads it, before anything is computed."""

import re
from pathlib import Path

import llama_cpp

from .. import QuernError
from .library import WARN, listening
from .model import Model

_WHO = re.compile(r"^\w+: ")  # the function that warns
_HARMLESS = "is not in special_eog_ids"  # llama.cpp then adds it
_VARYING = re.compile(r"'[^']*'|\S*\d\S*")  # names and numbers in a warning


def warnings(path: Path) -> list[str]:
    """llama.cpp's warnings on a model, each kind once; no weights are read.

    Raises:
        QuernError: llama.cpp cannot load it, or it predicts no next token from the text before it.
    """
    with listening(only=WARN) as heard, Model(path, load="hollow") as model:
        if why := _no_language_model(model):
            raise QuernError(
                f"{path} cannot be measured: {why}. Quern measures models that predict the next "
                "token from the text before it (causal language models)."
            )
    return _kinds("".join(heard).splitlines())


def _no_language_model(model: Model) -> str:
    """Why a model is no causal language model; empty where it may be one."""
    own = model._model
    if llama_cpp.llama_model_has_encoder(own):
        return "it has an encoder, whose output its decoder waits for (as T5)"
    if llama_cpp.llama_model_is_diffusion(own):
        return "it is a diffusion model, which fills in masked tokens"
    return ""


def _kinds(lines: list[str]) -> list[str]:
    """Warnings without decoration; of those that differ by names and numbers, the first."""
    found: dict[str, list[str]] = {}
    for line in lines:
        said = " ".join(_WHO.sub("", line).replace("`", "'").split())
        if said.isupper() and found:  # the rest of the warning before
            found[[*found][-1]][0] += f" {said}"
        elif any(map(str.isalpha, said)) and _HARMLESS not in said:
            found.setdefault(_VARYING.sub("", said), []).append(said)
    return [
        first + (f" (and {len(more)} more of this kind)" if more else "")
        for first, *more in found.values()
    ]
