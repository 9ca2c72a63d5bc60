"""What a study asks of the stages: evaluations, calibrations, recipes, and who meets whom."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .. import QuernError
from ..ggml_types import needs_imatrix
from ..imatrix.calibration import Calibration
from ..measure.evaluation import BASELINE, CACHE, Evaluation
from ..quantize.recipes import Recipe

VARIANT = "pure"  # in the recipes' names: studies quantize all tensors to one type


@dataclass(frozen=True)
class Cell:
    """One comparison of a study.

    Attributes:
        recipe, evaluation: their names.
        labels: what the tables tell it from the others by.
    """

    recipe: str
    evaluation: str
    labels: dict


@dataclass
class Plan:
    """A study as the stages see it; its plan is drawn up by adding to it.

    Attributes:
        name: what the names of its evaluations and calibrations begin with.
        settings: its section of the configuration.
        texts: the calibrations whose tokens are looked at, by what tables call them.
    """

    name: str
    settings: Mapping
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    calibrations: dict[str, Calibration] = field(default_factory=dict)
    recipes: dict[str, Recipe] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)

    def evaluation(self, label: str, evaluation: Evaluation) -> str:
        """Add an evaluation; its name."""
        return self._added(self.evaluations, label, evaluation)

    def calibration(self, label: str, calibration: Calibration) -> str:
        """Add a calibration; its name."""
        return self._added(self.calibrations, label, calibration)

    def recipe(self, kind: str, calibration: str | None = None) -> str:
        """Add a recipe, all tensors in one type; its name.

        Raises:
            QuernError: llama.cpp refuses the type without an imatrix, and there is none.
        """
        if needs_imatrix(kind) and calibration is None:
            raise self.wrong(
                "types",
                f"this study quantizes without an imatrix too, which llama.cpp refuses for {kind}; "
                "take another type",
            )
        recipe = Recipe(kind, VARIANT, imatrix=calibration, pure=True)
        self.recipes[recipe.name] = recipe
        return recipe.name

    def cell(self, kind: str, calibration: str | None, evaluation: str, labels: dict) -> None:
        """Add the comparison of a type with a calibration, or none, on an evaluation."""
        recipe = self.recipe(kind, calibration)
        self.cells.append(Cell(recipe, evaluation, {"type": kind, **labels}))

    def windows(self, key: str, n_ctx: int) -> int:
        """How many windows a number of tokens in the settings makes.

        Raises:
            QuernError: fewer than two.
        """
        tokens = self.settings[key]
        if tokens < 2 * n_ctx:
            raise self.wrong(key, f"{tokens} tokens are no two windows of {n_ctx}; give more")
        return tokens // n_ctx

    def require_corpus(self, key: str, name: str, config: Mapping) -> None:
        """Refuse a name that is no corpus.

        Raises:
            QuernError: there is no such corpus.
        """
        if name not in config["corpora"]:
            known = ", ".join(config["corpora"])
            raise self.wrong(key, f"there is no corpus {name}; there are {known}")

    def wrong(self, key: str, message: str) -> QuernError:
        """An error that names a key of the study."""
        return QuernError(f"studies.{self.name}.{key}: {message}.")

    def _added(self, place: dict, label: str, what) -> str:
        name = f"{self.name}-{label}"
        place[name] = what
        return name


def usual_evaluation(corpus: str, config: Mapping, **others) -> Evaluation:
    """An evaluation of a corpus with the settings of `evaluation`, besides `others`."""
    usual = {key: config["evaluation"][key] for key in (*BASELINE, *CACHE)}
    return Evaluation(corpus, **usual | others)


def usual_calibration(corpus: str, config: Mapping, **others) -> Calibration:
    """A calibration on windows of the usual size, besides `others`."""
    return Calibration(corpus, **{"n_ctx": config["imatrix"]["n_ctx"]} | others)
