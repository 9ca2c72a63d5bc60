"""Calibrations: what an imatrix is collected from. A pool as it is, its tokens in another order,
some of its windows, or text at random. Pure, since the rules read it."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..tokens.derivation import Derivation


@dataclass(frozen=True)
class Selection:
    """Some windows of a pool, by their mean divergence.

    Attributes:
        evaluation: the evaluation of that pool, by name.
        windows: how many are taken.
        which: those with the `highest` or the `lowest` divergence, or some at `random`.
        recipe: whose divergence; None where they are taken at random.
    """

    evaluation: str
    windows: int
    which: str = "highest"
    recipe: str | None = None


@dataclass(frozen=True)
class Calibration:
    """What an imatrix is collected from.

    Attributes:
        corpus: whose pool it is.
        n_ctx: tokens per window.
        windows: the first ones of the pool, or of text at random; None for all of the pool.
        order: another order of them, one of `derivation.ORDERS`.
        random: text at random in place of the pool's, one of `derivation.RANDOM`.
        seed: decides what is at random.
        select: only some windows.
    """

    corpus: str
    n_ctx: int = 512
    windows: int | None = None
    order: str | None = None
    random: str | None = None
    seed: int = 0
    select: Selection | None = None

    @property
    def is_derived(self) -> bool:
        """Whether its tokens are derived from the pool's; else they are the pool's as it is."""
        return bool(self.order or self.random or self.select)

    def derivation(self, among: int | None = None) -> Derivation:
        """How its tokens are derived from the pool's.

        Args:
            among: windows of the evaluation that it selects from; None for all of the pool.
        """
        shared = {"n_ctx": self.n_ctx, "seed": self.seed}
        if not self.select:
            return Derivation(windows=self.windows, order=self.order, random=self.random, **shared)
        among = among if self.select.which == "random" else None
        return Derivation(
            windows=self.select.windows, which=self.select.which, among=among, **shared
        )

    @property
    def objection(self) -> str:
        """Why its settings do not go together; nothing where they do."""
        given = [name for name in ("order", "random", "select") if getattr(self, name)]
        if len(given) > 1:
            return f"{' and '.join(given)} do not go together; take away all but one"
        if self.random and self.windows is None:
            return "text at random has no end of its own; say how many windows"
        if self.select and self.windows is not None:
            return "select says how many windows there are; take away windows"
        if self.select and (self.select.recipe is None) != (self.select.which == "random"):
            return "select needs a recipe for the highest and the lowest, and none for random ones"
        return ""


def calibrations_of(config: Mapping) -> dict[str, Calibration]:
    """All calibrations of a configuration, by name: each corpus by its own, then `calibrations`."""
    shared = {key: config["imatrix"][key] for key in ("n_ctx", "windows")}
    found = {name: Calibration(name, **shared) for name in config["corpora"]}
    for name, entry in config["calibrations"].items():
        settings = shared | entry
        if entry.get("select"):
            settings |= {"windows": entry.get("windows"), "select": Selection(**entry["select"])}
        found[name] = Calibration(**settings)
    return found
