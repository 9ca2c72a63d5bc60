"""Which type each tensor is asked to have, which it gets, and why.

llama.cpp gives types by a table of its own (src/llama-quant.cpp), by options for the output and the
embeddings, and by patterns on tensors' names, and says nothing where one of them has no effect.
"""

from collections.abc import Mapping, Sequence

from .. import RecipeError
from ..ggml_types import TENSOR_TYPES
from ..gguf_files import GgufTensor
from .patterns import matched
from .recipes import Recipe

EMBEDDINGS = ("token_embd.weight", "per_layer_token_embd.weight")
OUTPUT = "output.weight"
KEPT = "llama.cpp keeps norms, biases and some small tensors as they are"


def asked_for(recipe: Recipe, names: Sequence[str]) -> dict[str, str]:
    """The types that a recipe asks for by tensor; what is left to llama.cpp's table is left out.

    Raises:
        RecipeError: a pattern matches no name, or takes too long.
    """
    types = dict(recipe.tensor_types)
    asked = {n: types[first] for n, (first, *_) in matched(recipe.tensor_types, names).items()}
    if recipe.output_type:
        asked[OUTPUT if OUTPUT in names else EMBEDDINGS[0]] = recipe.output_type
    if recipe.token_embedding_type:
        asked |= dict.fromkeys(EMBEDDINGS, recipe.token_embedding_type)
    return {name: kind for name, kind in asked.items() if name in names}


def account(
    asked: Mapping[str, str],
    planned: Mapping[str, str],
    fallbacks: Mapping[str, str],
    tensors: Mapping[str, GgufTensor],
) -> dict[str, dict[str, str]]:
    """What each tensor was asked to be (`asked`), what it is (`got`), and `why` if they differ.

    Args:
        asked: types that the recipe asks for.
        planned, fallbacks: as `llama.planned_types` gives them.
        tensors: of the unquantized model.

    Raises:
        RecipeError: a tensor's rows do not allow its type, and llama.cpp has no other for it.
    """
    found = {}
    for name, got in planned.items():
        columns, before = int(tensors[name].shape[0]), tensors[name].tensor_type.name
        if not TENSOR_TYPES[got].fits(columns):
            raise RecipeError(
                f"{name} cannot become {got}: its rows have {columns} weights, no multiple of "
                f"{TENSOR_TYPES[got].weights}; choose another type for it."
            )
        wanted = asked.get(name) or fallbacks.get(name, got)
        found[name] = {"asked": wanted, "got": got}
        if name in fallbacks:
            block = TENSOR_TYPES[fallbacks[name]].weights
            found[name]["why"] = f"rows of {columns} are no multiple of {block}"
        elif got != wanted:
            found[name]["why"] = KEPT if got == before else "llama.cpp chose another"
    return found


def require_exact(types: Mapping[str, str], tensors: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Refuse types that tensors do not get; those that llama.cpp keeps as they are get a sentence.

    Args:
        types: that the tensors are to have, of a mix or another file.
        tensors: as `account` gives them.

    Raises:
        RecipeError: the sentence names the tensor.
    """
    others = {n: t for n, t in tensors.items() if n in types and t["got"] != types[n]}
    for name, tensor in others.items():
        if tensor.get("why") != KEPT:
            raise RecipeError(f"{name} cannot become {types[name]}: {tensor.get('why')}.")
    if not others:
        return []
    name = next(iter(others))
    return [f"{len(others)} tensors stay as they are, such as {name}: {KEPT}."]


def require_effect(recipe: Recipe, tensors: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Refuse patterns for tensors that llama.cpp keeps as they are.

    Args:
        tensors: as `account` gives them.

    Returns:
        A sentence for each pattern of which every tensor is decided by others.

    Raises:
        RecipeError: the sentence names the pattern, and a tensor.
    """
    notes, by_tensor = [], matched(recipe.tensor_types, list(tensors))
    apart = {OUTPUT: recipe.output_type} | dict.fromkeys(EMBEDDINGS, recipe.token_embedding_type)
    for pattern, kind in recipe.tensor_types:
        left = [n for n, first in by_tensor.items() if first[0] == pattern and not apart.get(n)]
        if not left:
            notes.append(
                f"tensor_types: {pattern} decides nothing; earlier patterns, output_type or "
                "token_embedding_type decide all its tensors."
            )
        elif all(tensors[name].get("why") == KEPT for name in left):
            raise RecipeError(f"tensor_types: {pattern} cannot give {kind} to {left[0]}: {KEPT}.")
    return notes
