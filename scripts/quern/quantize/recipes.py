"""Recipes: what a sweep in the configuration amounts to, by name."""

from itertools import product

from .. import QuernError

GGML = "ggml"  # llama.cpp's own rounding
OPTIONS = ("pure", "output_type", "token_embedding_type", "tensor_types")


def needs_imatrix(kind: str) -> bool:
    """Whether llama.cpp refuses to quantize to `kind` without one (src/llama-quant.cpp)."""
    return kind.startswith(("IQ1", "IQ2", "IQ3_X")) or kind == "Q2_K_S"


def recipes_of(config: dict) -> dict[str, dict]:
    """All recipes of a configuration, by name.

    A name reads `TYPE[.variant][~rounding][+imatrix[^prior]]`: `Q4_K_M`, `Q4_K_M+wiki`,
    `Q4_0.pure~exact+wiki^1000`. A recipe has the keys `type`, `imatrix` (a corpus, an imatrix
    file, or None), `rounding` where it is not ggml's own, `prior` where it is not 0, and those of
    `OPTIONS` that are set.

    Raises:
        QuernError: an imatrix names neither a corpus nor a file, or two entries give the same name.
    """
    known = [*config["corpora"], *config["imatrix"]["files"]]
    recipes: dict[str, dict] = {}
    for i, sweep in enumerate(config["quantize"]):
        options = {key: sweep[key] for key in OPTIONS if sweep.get(key)}
        axes = (sweep[axis] for axis in ("types", "rounding", "imatrix", "prior"))
        for kind, rounding, imatrix, prior in product(*axes):
            if imatrix != "none" and imatrix not in known:
                raise QuernError(
                    f"quantize.{i}.imatrix: {imatrix} is no corpus or file; known are none, "
                    f"{', '.join(known)}."
                )
            prior = prior if imatrix != "none" else 0
            name = kind
            name += f".{sweep['variant']}" if "variant" in sweep else ""
            name += f"~{rounding}" if rounding != GGML else ""
            name += f"+{imatrix}" if imatrix != "none" else ""
            name += f"^{prior:g}" if prior else ""
            recipe = {"type": kind, "imatrix": None if imatrix == "none" else imatrix, **options}
            recipe |= {"prior": prior} if prior else {}
            recipe |= {"rounding": rounding} if rounding != GGML else {}
            if recipes.setdefault(name, recipe) != recipe:
                raise QuernError(
                    f"quantize.{i}: there is another recipe {name} with other options; give this "
                    "entry a variant, which becomes part of the name."
                )
    return recipes


def unrounded(name: str, recipe: dict) -> str:
    """The name of what a recipe's rounding starts from: the same recipe with ggml's own."""
    return name.replace(f"~{recipe['rounding']}", "", 1)


def carried_out_by_llama(recipes: dict[str, dict]) -> dict[str, dict]:
    """The recipes with ggml's rounding, and those that the other ones start from."""
    found = {}
    for name, recipe in recipes.items():
        plain = {key: value for key, value in recipe.items() if key != "rounding"}
        found[name if plain == recipe else unrounded(name, recipe)] = plain
    return found


def has_rounded(recipes: dict[str, dict], name: str) -> bool:
    """Whether a recipe is there both with ggml's rounding and with another."""
    own = recipes[name]
    plain = unrounded(name, own) if "rounding" in own else name
    return plain in recipes and any(
        "rounding" in other and unrounded(key, other) == plain for key, other in recipes.items()
    )
