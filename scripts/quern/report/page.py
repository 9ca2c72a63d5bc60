"""The page: what to ship, the recipes around it, and how to repeat all of it, in one HTML file that
needs no network."""

import functools
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import vl_convert
import yaml

from .. import QuernError, __version__, files, published, sizes
from ..measure import summaries
from ..memory import stored
from ..speed import figures
from . import answer, charts, templating
from .tail import Stray

# Figures that are shown with their interval, and how.
FORMS = {"kld_mean": ".3g", "score": ".3g", "ppl_ratio": ".4f"}
PACKAGES = ("llama_cpp_python", "gguf", "numpy", "scipy", "snakemake")


@dataclass(frozen=True)
class Details:
    """What is told of a recipe besides the figures of the summary's table.

    Attributes:
        labels: as the rules give them: name, type, imatrix, rounding, and `foreign` where somebody
            else made it.
        sha256: of the quantized model.
        sources: mean KLD and its interval for each source of the text.
        memory: what memory.py wrote.
        file: its name where somebody else made it, with its repository where that is known.
    """

    labels: dict
    sha256: str
    sources: dict[str, dict]
    memory: dict | None = None
    file: str = ""

    @property
    def name(self) -> str:
        return self.labels["name"]


@dataclass(frozen=True)
class Strays:
    """Where a recipe strays most.

    Attributes:
        share: of its divergence that lies in the worst 1 % of positions.
    """

    recipe: str
    share: float
    tokens: list[Stray]


@dataclass(frozen=True)
class Material:
    """All that stands on the page.

    Attributes:
        model, corpus: names.
        answers: as `answer.answers`.
        table: the summary's.
        recipes: by name.
        speed: what speed.py wrote; None where nothing was timed.
        growths: by corpus, as `growth.decision.choose`.
        strays: of the recipes that are to be shipped.
        facts: what was measured on what, and by what: (name, value).
        warnings: llama.cpp's on the unquantized model.
        config: the configuration as others may read it, see `published`.
    """

    model: str
    corpus: str
    answers: list[dict]
    table: pd.DataFrame
    recipes: dict[str, Details]
    speed: dict | None = None
    growths: dict[str, dict] = field(default_factory=dict)
    strays: list[Strays] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    config: dict = field(default_factory=dict)


def read(entries: list[dict], memory: dict[str, dict]) -> dict[str, Details]:
    """What the page tells of recipes, by name.

    Args:
        entries: of each its labels, and the paths `info` (JSON of the quantized model), `compare`
            and `positions` (JSON and HDF5 of its comparison).
        memory: by recipe, what memory.py wrote.

    Raises:
        QuernError: an entry lacks one of them, or a file is missing, damaged or of another recipe.
    """
    found = {}
    try:
        for entry in entries:
            info = files.read_json(entry["info"])
            sha256, own_memory = info["sha256"], memory.get(entry["name"])
            result = summaries.read(entry["compare"], entry["positions"], quantized_sha256=sha256)
            parts = result["sources"]
            if own_memory:
                stored.require_of(own_memory, sha256, f"the memory of {entry['name']}")
            found[entry["name"]] = Details(
                entry,
                sha256,
                {name: part["figures"]["kld_mean"] for name, part in parts.items()},
                own_memory,
                answer.file_of(info["made"]) if entry.get("foreign") and "made" in info else "",
            )
    except (KeyError, TypeError) as error:
        raise QuernError(f"--recipes is not a list of compared recipes ({error!r}).") from None
    return found


def facts(model: dict, comparison: dict) -> list[tuple[str, str]]:
    """What was measured on what, and by what: names and values.

    Args:
        model: the baseline's `ModelInfo` as JSON.
        comparison: one of the comparisons, as JSON.
    """
    of = comparison["provenance"]
    first, last = of["first_position"], of["first_position"] + of["n_scored"] - 1
    return [
        (
            "unquantized model",
            f"{published.bare(model['name']) or model['architecture']}, SHA-256 {model['sha256']}",
        ),
        ("tokenizer", f"SHA-256 {model['tokenizer_sha256']}"),
        ("text", f"SHA-256 {of['text_sha256']}"),
        (
            "scored",
            f"{comparison['positions']:,} tokens: positions {first} to {last} of "
            f"{comparison['windows']} windows of {of['n_ctx']} tokens",
        ),
        ("llama.cpp", of["computed_by"]),
    ]


def write(material: Material, path: Path) -> None:
    """Write the page; the same material gives the same bytes."""
    path.write_text(html(material), encoding="utf-8")


def html(material: Material) -> str:
    """The page as a text."""
    environment = templating.environment()
    environment.filters |= {"size": sizes.shown, "next_step": answer.next_step}
    frame = rows(material)
    chart = charts.divergence_against_size(frame)
    return environment.get_template("page.html").render(
        m=material,
        style=templating.text("page.css"),
        script=scripts(),
        rows=frame.to_dict("records"),
        charts={"pareto": chart},
        growths={
            corpus: (charts.growth(found), found["decision"])
            for corpus, found in material.growths.items()
        },
        memory=memory(material),
        speeds=speeds(material),
        load=figures.load_text(material.speed) if material.speed else "",
        sources=sources(material),
        config=yaml.safe_dump(material.config, sort_keys=False, allow_unicode=True),
        versions={"quern": __version__} | {name: version(name) for name in PACKAGES},
    )


@functools.cache
def scripts() -> str:
    """Vega, Vega-Lite and the page's own few lines, as one script."""
    own = templating.text("page.js") + templating.text("tables.js")
    return vl_convert.javascript_bundle(own)


def rows(material: Material) -> pd.DataFrame:
    """The table of recipes with what charts and the page's table show of it as texts."""
    frame = material.table[material.table.kld_mean.notna()].copy()
    labels = [material.recipes[name].labels for name in frame.recipe]
    frame["rounding"] = [found.get("rounding", "ggml") for found in labels]
    frame["made"] = ["elsewhere" if found.get("foreign") else "here" for found in labels]
    frame["front"] = frame.beaten_by.isna() | (frame.beaten_by == "")
    frame["beaten_by"] = frame.beaten_by.fillna("")
    frame["size"] = frame.bytes / 1e6
    frame["size_text"] = frame.bytes.map(sizes.shown)
    frame["named"] = _named(frame)
    for name, form in FORMS.items():
        ends = zip(frame[name], frame[f"{name}_low"], frame[f"{name}_high"], strict=True)
        frame[f"{name}_text"] = [
            f"{value:{form}} ({low:{form}} to {high:{form}})" for value, low, high in ends
        ]
    generation = answer.generation(material.speed)
    frame["speed"] = [generation.get(name, (None,))[0] for name in frame.recipe]
    if generation:
        frame["speed_text"] = [
            "{:.4g} tokens/s ({:.4g} to {:.4g})".format(*generation[name])
            if name in generation
            else "not timed"
            for name in frame.recipe
        ]
    frame["shipped"] = frame.recipe.isin([a["recipe"] for a in material.answers])
    return frame


def _named(frame):
    """Where in the picture the names of the best recipe of each size on the front stand."""
    front = frame[frame.front].sort_values("score").drop_duplicates("bpw")
    middle = (frame["size"].min() * frame["size"].max()) ** 0.5
    sides = {i: "left" if size < middle else "right" for i, size in front["size"].items()}
    return [sides.get(i, "") for i in frame.index]


def memory(material: Material) -> list[dict]:
    """A row for each recipe, context and cache type."""
    return [
        {"recipe": name}
        | {k: recipe.memory[k] for k in ("tensor_bytes", "repacked_bytes")}
        | context
        for name in material.table.recipe
        if (recipe := material.recipes.get(name)) and recipe.memory
        for context in recipe.memory["contexts"]
    ]


def speeds(material: Material) -> list[dict]:
    """A row for each recipe and test."""
    return (material.speed or {}).get("results", [])


def sources(material: Material) -> list[dict]:
    """For each source of the text, the mean KLD of each recipe; empty where there is only one."""
    names = list(dict.fromkeys(s for r in material.recipes.values() for s in r.sources))
    if len(names) < 2:
        return []
    return [
        {"source": name} | {r.name: r.sources.get(name) for r in material.recipes.values()}
        for name in names
    ]
