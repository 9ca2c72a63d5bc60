"""Recipes: how a model is quantized, and what a sweep in the configuration amounts to."""

import re
from argparse import Namespace
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from pathlib import PurePath

from .. import QuernError
from ..command import option, options_of
from ..ggml_types import TENSOR_TYPES, UNQUANTIZED, needs_imatrix, needs_importances
from ..sizes import Size
from . import patterns

GGML = "ggml"  # llama.cpp's own rounding
COMPENSATED = "compensated"  # the rounding of that name in `rounding.rules`
KEY = "quern.rounding"  # metadata of a file: how it was rounded again
MIXED = "Q8_0"  # llama.cpp's base type where all tensors have one of their own


@dataclass(frozen=True)
class Mix:
    """Which types a recipe chooses from, tensor by tensor, and for which size.

    Attributes:
        size: as `Size.parse` reads it.
        types: tensor types to choose from; the usual ones where it is empty.
        fixed: types by regular expression on the tensor's name; the first match counts.
        fast_on: `cpu` leaves out types that are slow there.
        rounding: the one that the errors are computed with.
    """

    size: str
    types: tuple[str, ...] = ()
    fixed: tuple[tuple[str, str], ...] = ()
    fast_on: str = "any"
    rounding: str = GGML

    @property
    def possible(self) -> set[str]:
        """Types that tensors may be asked to have besides the usual ones."""
        return {*self.types, *dict(self.fixed).values()}

    @property
    def label(self) -> str:
        """In place of a type in a recipe's name."""
        label = f"mix-{Size.parse(self.size).label}"
        return label if self.rounding == GGML else f"{label}-for-{self.rounding}"


@dataclass(frozen=True)
class Recipe:
    """How a model is quantized.

    A new option is a key of the schema, a line of config/README.md, a field here, and what carries
    it out: an argument of `llama.quantize`, or a rounding.

    Attributes:
        variant: names the options in the recipe's name.
        imatrix: a calibration (a corpus is one) or an imatrix file of the configuration, by name;
            None for none.
        mix: where types are chosen; then `type` does not count.
        like: a file whose types are taken, tensor by tensor; then `type` does not count.
    """

    type: str = option("as llama-quantize names it, such as Q4_K_M")
    variant: str = ""
    imatrix: str | None = None
    mix: Mix | None = None
    like: str | None = None
    rounding: str = option("how weights become codes", GGML)
    pure: bool = option("the same type for all tensors", False)
    output_type: str | None = option("tensor type of the output matrix", None)
    token_embedding_type: str | None = option("tensor type of the token embeddings", None)
    tensor_types: tuple[tuple[str, str], ...] = option(
        "tensor type where the name matches the regular expression; the first match counts",
        (),
        metavar="PATTERN=TYPE",
    )

    @classmethod
    def of_sweep(cls, sweep: Mapping) -> Iterator["Recipe"]:
        """The recipes of an entry of `quantize` in the configuration, defaults filled in."""
        lists = ("rounding", "imatrix")
        known = {field.name for field in fields(cls)}
        own = {*lists, "mix", "like"}
        options = {key: sweep[key] for key in sweep.keys() & known - own}
        options["tensor_types"] = tuple(options.get("tensor_types", {}).items())
        for kind in _kinds(sweep):
            for values in product(*(sweep[key] for key in lists)):
                chosen = dict(zip(lists, values, strict=True))
                recipe = cls(**kind, **options, **chosen)
                if recipe.mix:
                    recipe = replace(recipe, mix=replace(recipe.mix, rounding=chosen["rounding"]))
                has_imatrix = recipe.imatrix != "none"
                yield recipe if has_imatrix else replace(recipe, imatrix=None)

    @property
    def label(self) -> str:
        """Its type, or what stands for one."""
        if self.like:
            return f"like-{_stem(self.like)}"
        return self.mix.label if self.mix else self.type

    @property
    def name(self) -> str:
        """`TYPE[.variant][~rounding][+imatrix]`, such as `Q4_0.pure~exact+wiki`."""
        name = f"{self.label}.{self.variant}" if self.variant else self.label
        name += f"~{self.rounding}" if self.rounding != GGML else ""
        return name + (f"+{self.imatrix}" if self.imatrix else "")

    @property
    def unrounded(self) -> "Recipe":
        """What its rounding starts from: the same with ggml's own."""
        return replace(self, rounding=GGML)

    @property
    def is_rounded(self) -> bool:
        """Whether its rounding is another than ggml's own."""
        return self.rounding != GGML

    @property
    def needs_moments(self) -> bool:
        """Whether its rounding looks at second moments."""
        return self.rounding == COMPENSATED

    @classmethod
    def of_arguments(cls, arguments: Namespace) -> "Recipe":
        """The recipe that a command was given.

        Raises:
            QuernError: a tensor type has no pattern.
        """
        found = options_of(arguments, cls) | {"imatrix": None}
        pairs = tuple(text.rpartition("=") for text in found["tensor_types"])
        for pair in pairs:
            if not all(pair):
                raise QuernError(f"--tensor-types {''.join(pair)} is not of the form PATTERN=TYPE.")
        return cls(**found | {"tensor_types": tuple((pattern, kind) for pattern, _, kind in pairs)})

    @property
    def lacks_imatrix(self) -> str:
        """The first of its types that needs an imatrix, where it has none; else nothing."""
        others = [self.output_type, self.token_embedding_type, *dict(self.tensor_types).values()]
        others += dict(self.mix.fixed).values() if self.mix else ()
        needy = [self.type] if needs_imatrix(self.type) else []
        needy += [kind for kind in others if kind and needs_importances(kind)]
        return needy[0] if needy and not self.imatrix else ""

    @property
    def ignores_patterns(self) -> str:
        """A sentence where llama.cpp would not look at its patterns; else nothing."""
        if self.tensor_types and self.type in UNQUANTIZED:
            return (
                f"tensor_types has no effect on {self.type}, since llama.cpp looks at it only "
                "where the type is a quantized one; take it away."
            )
        return ""

    def cannot_fix(self, columns: Mapping[str, int]) -> str:
        """Why a mix cannot have its fixed types in a model; nothing where nothing is against it.

        Args:
            columns: of each of the model's matrices, by name.
        """
        fixed = dict(self.mix.fixed) if self.mix else {}
        try:
            found = patterns.matched(list(fixed.items()), list(columns))
        except QuernError as error:
            return str(error).removeprefix("tensor_types: ").rstrip(".")
        for name, (first, *_) in found.items():
            if not TENSOR_TYPES[fixed[first]].fits(columns[name]):
                return (
                    f"{name} cannot become {fixed[first]}; its rows of {columns[name]} weights are "
                    "no whole blocks of it"
                )
        return ""

    def options(self, names: Collection[str]) -> dict:
        """Options of a command by name, for `command.flags`; `of_arguments` reads them back."""
        found = {name: getattr(self, name) for name in names}
        if "tensor_types" in found:
            found["tensor_types"] = [f"{pattern}={kind}" for pattern, kind in self.tensor_types]
        return found

    def as_dict(self) -> dict:
        """All that decides its result, and not its name; a file that it is `like` by content."""
        found = asdict(replace(self, variant=""))
        del found["like"]
        return found


def _stem(path: str) -> str:
    """A file's name as part of another's: no ending, no number of a shard, no odd characters."""
    stem = re.sub(r"-\d{5}-of-\d{5}$", "", PurePath(path).stem)
    return re.sub(r"[^A-Za-z0-9._-]", "-", stem)


def _kinds(sweep: Mapping) -> list[dict]:
    """What an entry of the configuration says of types, as fields of a recipe, one a recipe."""
    if sweep.get("mix"):
        return [{"type": MIXED, "mix": mix} for mix in _mixes(sweep["mix"])]
    if likes := sweep.get("like"):
        return [{"type": MIXED, "like": p} for p in ([likes] if isinstance(likes, str) else likes)]
    return [{"type": kind} for kind in sweep["types"]]


def _mixes(entry: Mapping) -> list[Mix]:
    """The mixes of an entry of the configuration, one a size."""
    sizes = entry["size"] if isinstance(entry["size"], list) else [entry["size"]]
    fixed = tuple(entry.get("fixed", {}).items())
    rest = (tuple(entry.get("types", ())), fixed, entry.get("fast_on", "any"))
    return [Mix(str(Size.text(size)), *rest) for size in sizes]


# What llama.cpp carries out of a recipe, and what a rounding after it.
BY_LLAMA = tuple(f.name for f in fields(Recipe) if f.metadata and f.name != "rounding")
BY_ROUNDING = ("rounding",)


def recipes_of(config: Mapping) -> dict[str, Recipe]:
    """All recipes of a configuration, by name.

    Raises:
        QuernError: an imatrix names no calibration or file, or two entries give the same name.
    """
    known = [*config["corpora"], *config["calibrations"], *config["imatrix"]["files"]]
    found: dict[str, Recipe] = {}
    for i, sweep in enumerate(config["quantize"]):
        for recipe in Recipe.of_sweep(sweep):
            if recipe.imatrix not in (None, *known):
                raise QuernError(
                    f"quantize.{i}.imatrix: {recipe.imatrix} is no corpus, calibration or file; "
                    f"known are none, {', '.join(known)}."
                )
            if bare := recipe.lacks_imatrix:
                raise QuernError(
                    f"quantize.{i}: llama.cpp quantizes to {bare} only with an imatrix; add one "
                    "to this entry's imatrix, and no none."
                )
            patterns.require_sense([pattern for pattern, _ in recipe.tensor_types])
            if recipe.mix:
                patterns.require_sense([pattern for pattern, _ in recipe.mix.fixed])
                if recipe.tensor_types or recipe.pure:
                    raise QuernError(
                        f"quantize.{i}: a mix chooses the types of all tensors; give those that "
                        "are not to be chosen under mix.fixed."
                    )
            others = recipe.output_type or recipe.token_embedding_type or recipe.tensor_types
            if recipe.like and (others or recipe.pure):
                raise QuernError(
                    f"quantize.{i}: the types of all tensors are those of {recipe.like}; take "
                    "away pure, output_type, token_embedding_type and tensor_types."
                )
            if recipe.ignores_patterns:
                raise QuernError(f"quantize.{i}: {recipe.ignores_patterns}")
            if found.setdefault(recipe.name, recipe) != recipe:
                raise QuernError(
                    f"quantize.{i}: there is another recipe {recipe.name} with other options; give "
                    "this entry a variant, which becomes part of the name."
                )
    return found


def carried_out_by_llama(recipes: Mapping[str, Recipe]) -> dict[str, Recipe]:
    """The recipes with ggml's rounding, and those that the other ones start from."""
    return {recipe.unrounded.name: recipe.unrounded for recipe in recipes.values()}


def with_roundings(recipes: Mapping[str, Recipe]) -> dict[str, Recipe]:
    """The recipes that are there both with ggml's rounding and with another."""
    rounded = {recipe.unrounded.name for recipe in recipes.values() if recipe.is_rounded}
    return {
        name: recipe
        for name, recipe in recipes.items()
        if recipe.unrounded.name in rounded & recipes.keys()
    }
