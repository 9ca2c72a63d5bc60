"""Recipes: what a sweep in the configuration amounts to, by name."""

from itertools import product

from . import QuernError

OPTIONS = ("pure", "output_type", "token_embedding_type", "tensor_types")


def recipes_of(config: dict) -> dict[str, dict]:
    """All recipes of a configuration, by name.

    A name reads `TYPE[.variant][+imatrix]`: `Q4_K_M`, `Q4_K_M+wiki`, `Q4_0.pure+wiki`. A recipe
    has the keys `type`, `imatrix` (a corpus, or None) and those of `OPTIONS` that are set.

    Raises:
        QuernError: an imatrix names no corpus, or two entries give the same name.
    """
    recipes: dict[str, dict] = {}
    for i, sweep in enumerate(config["quantize"]):
        options = {key: sweep[key] for key in OPTIONS if sweep.get(key)}
        for kind, imatrix in product(sweep["types"], sweep["imatrix"]):
            if imatrix != "none" and imatrix not in config["corpora"]:
                raise QuernError(
                    f"quantize.{i}.imatrix: {imatrix} is no corpus; known are none, "
                    f"{', '.join(config['corpora'])}."
                )
            name = kind
            name += f".{sweep['variant']}" if "variant" in sweep else ""
            name += f"+{imatrix}" if imatrix != "none" else ""
            recipe = {"type": kind, "imatrix": None if imatrix == "none" else imatrix, **options}
            if recipes.setdefault(name, recipe) != recipe:
                raise QuernError(
                    f"quantize.{i}: there is another recipe {name} with other options; give this "
                    "entry a variant, which becomes part of the name."
                )
    return recipes
