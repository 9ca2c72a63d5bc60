"""Mine against theirs: how the recipes stand beside each foreign model."""

from collections.abc import Sequence

import pandas as pd

from .pairs import Differences

_FIGURES = {"kld_mean": "mean KLD", "score": "score"}


def against(recipes: Sequence, compared: pd.DataFrame) -> str:
    """A section of the summary in Markdown, a paragraph a foreign model; empty where there is none.

    Args:
        recipes: recipes and foreign models, each a `summary.Compared`.
        compared: every pair of them, as `summary.pairs` gives it.
    """
    own = [r for r in recipes if not r.foreign]
    differences = {figure: Differences(compared, figure) for figure in _FIGURES}
    said = [_beside(theirs, own, differences) for theirs in recipes if theirs.foreign]
    return "".join(["\n## Mine against theirs\n", *said]) if said and own else ""


def _beside(theirs, own: Sequence, differences: dict[str, Differences]) -> str:
    def score(recipe):
        return recipe.result["figures"]["score"]["value"]

    def figures(recipe):
        found = (
            f"{label} {differences[figure].of(recipe.name, theirs.name)}"
            for figure, label in _FIGURES.items()
        )
        return "; ".join(found)

    size = theirs.info.tensor_bytes
    said = f"**`{theirs.name}`**, {size:,} bytes of tensors. "
    if fits := [r for r in own if r.info.tensor_bytes <= size]:
        best = min(fits, key=score)
        said += (
            f"The best recipe of no more bytes is `{best.name}` ({_smaller(best, size)}): "
            f"{figures(best)}."
        )
    else:
        said += "Every recipe is larger."
    level = [r for r in own if differences["score"].of(r.name, theirs.name).verdict != "worse"]
    if level:
        least = min(level, key=lambda r: (r.info.tensor_bytes, score(r)))
        if fits and least is best:
            return f"\n{said} No smaller one is as good, as far as can be told.\n"
        said += (
            f" The smallest recipe whose score is not credibly worse is `{least.name}` "
            f"({_smaller(least, size)}): {figures(least)}."
        )
    else:
        said += " Every recipe has a credibly worse score."
    return f"\n{said}\n"


def _smaller(recipe, size: int) -> str:
    share = recipe.info.tensor_bytes / size - 1
    if share == 0:
        return "the same size"
    return f"{abs(share):.2%} {'smaller' if share < 0 else 'larger'}"
