"""Calibrations: what an imatrix is collected from. A pool as it is, its tokens in another order,
some of its windows, or text at random. Pure, since the rules read it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from ..command import option

# All are orders of the same tokens.
ORDERS = (
    "documents",
    "shuffled-documents",
    "random-windows",
    "shuffled-sentences",
    "shuffled-tokens",
)
OF_DOCUMENTS = ("documents", "shuffled-documents")
RANDOM = ("tokens", "words", "bytes", "samples")
WHICH = ("highest", "lowest", "random")


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
        select: only some windows.
    """

    corpus: str
    n_ctx: int = option("tokens per window", 512)
    windows: int | None = option("windows of the pool, or of text at random", None, type=int)
    order: str | None = option(
        "another order of the pool's first windows; documents is that of their sources",
        None,
        choices=ORDERS,
    )
    random: str | None = option(
        "text at random in place of the pool's: tokens, words of the pool, printable bytes, or the "
        "model's own samples",
        None,
        choices=RANDOM,
    )
    seed: int = option("decides what is at random", 0)
    select: Selection | None = None

    @property
    def made(self) -> bool:
        """Whether tokens of its own are made; else they are the pool's as it is."""
        return bool(self.order or self.random or self.select)

    @property
    def options(self) -> dict:
        """What decides its tokens besides their source, by the command's options."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.metadata}

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
