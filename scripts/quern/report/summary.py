"""All recipes of a model side by side: one table, every pair of recipes, one picture."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from .. import QuernError, files
from ..gguf_files import ModelInfo
from ..measure import comparison, statistics, summaries
from ..measure.window_store import WindowStore
from . import foreign, plots
from .phrases import failed_lines, intervals, warned

# Columns of the table and how Markdown shows them.
COLUMNS = {
    "recipe": "{}",
    "type": "{}",
    "imatrix": "{}",
    "bytes": "{:,.0f}",
    "bpw": "{:.3f}",
    "fell_back": "{:,}",
    "kld_mean": "{:.6f}",
    "kld_median": "{:.6f}",
    "kld_p90": "{:.5f}",
    "kld_p95": "{:.5f}",
    "kld_p99": "{:.5f}",
    "score": "{:.5f}",
    "ppl_ratio": "{:.5f}",
    "same_top": "{:.3%}",
}
FIGURES = [name for name in COLUMNS if name in statistics.FIGURES]
SHOWN_INTERVALS = ("kld_mean", "score")  # in Markdown; the CSV has all
# Figures by which pairs are compared, and whether low is good.
PAIRED = {"kld_mean": 1, "kld_median": 1, "kld_p99": 1, "score": 1, "same_top": -1}


@dataclass(frozen=True)
class Compared:
    """One row: a recipe, its quantized model, its comparison.

    Attributes:
        imatrix: its name, or `none`; `unknown` of a foreign model.
        foreign: whether somebody else quantized it.
        result, positions: the comparison's summary, and its figures per position (HDF5).
        made: how it was quantized, with `notes` of what the user should know.
    """

    name: str
    type: str
    imatrix: str
    info: ModelInfo
    result: dict
    positions: Path
    made: dict = field(default_factory=dict)
    foreign: bool = False

    def noise(self, figure: str) -> float:
        """How far a figure would move in other graphs, a 95 % bound; see `comparison.noise`."""
        return self.result["noise"]["figures"].get(figure, 0.0)


def read(entries: list[dict]) -> list[Compared]:
    """The recipes that were compared, by falling size.

    Args:
        entries: of each its `name`, `type` and `imatrix` (a name or `none`), and the paths `info`
            (JSON of the quantized model), `compare` and `positions` (JSON and HDF5 of its
            comparison); of foreign models also `foreign`, which is true.

    Raises:
        QuernError: an entry lacks one of them, or a file is missing, damaged or of another recipe.
    """
    try:
        recipes = [
            Compared(
                entry["name"],
                entry["type"],
                entry["imatrix"],
                info,
                summaries.read(entry["compare"], entry["positions"], quantized_sha256=info.sha256),
                Path(entry["positions"]),
                files.read_json(entry["info"]).get("made", {}),
                entry.get("foreign", False),
            )
            for entry in entries
            if not files.failure(entry["compare"])
            for info in [ModelInfo.read(entry["info"])]
        ]
    except (KeyError, TypeError) as error:
        raise QuernError(f"--recipes is not a list of compared recipes ({error!r}).") from None
    return sorted(recipes, key=lambda r: (-r.info.tensor_bytes, r.name))


def table(recipes: list[Compared]) -> pd.DataFrame:
    """One row a recipe: `COLUMNS`, `foreign`, and `_low` and `_high` of each figure."""
    rows = []
    for r in recipes:
        row = {"recipe": r.name, "type": r.type, "imatrix": r.imatrix, "foreign": r.foreign}
        row |= {"bytes": r.info.file_bytes, "bpw": r.info.bits_per_weight}
        row |= {"fell_back": fell_back(r.made.get("tensors", {}))}
        for name in FIGURES:
            figure = r.result["figures"][name]
            row |= {name: figure["value"]}
            row |= {f"{name}_{end}": figure[end] for end in ("low", "high")}
            row[f"{name}_noise"] = r.noise(name)
        rows.append(row | {"windows": r.result["windows"]})
    return pd.DataFrame(rows)


def fell_back(tensors: dict[str, dict[str, str]]) -> int:
    """How many weights have another type than was meant, since their rows do not allow it."""
    return sum("no multiple" in tensor.get("why", "") for tensor in tensors.values())


def pairs(
    recipes: list[Compared],
    which: Iterable[tuple[str, str]] | None = None,
    figures: dict[str, int] = PAIRED,
) -> pd.DataFrame:
    """Pairs of recipes: paired differences (first minus second) on the windows both have.

    Args:
        which: names of the recipes of each pair; every pair where it is None.
        figures: which to compare, and 1 or -1 where low or high is good.

    Columns recipe, other, figure, difference, low, high, noise, verdict: whether the first is
    `better`, `worse`, `tied` (the difference lies within the noise of both), or we `cannot tell`;
    bytes: how much larger the first is.
    """
    samples: dict[tuple, statistics.Replicates] = {}
    known = {r.name: r for r in recipes}
    stores = {r.name: _windows_and_figures(r) for r in recipes}

    def replicates(name, windows):
        key = name, windows.tobytes()
        if key not in samples:
            numbers, figures = stores[name]
            kept = np.isin(numbers, windows)
            sample = statistics.Sample({k: v[kept] for k, v in figures.items()})
            samples[key] = sample.replicates
        return samples[key]

    rows = []
    for one, other in which or combinations((r.name for r in recipes), 2):
        common = np.intersect1d(stores[one][0], stores[other][0])
        if len(common) < 2:
            raise QuernError(f"{one} and {other} were not compared on the same windows.")
        first, second = replicates(one, common), replicates(other, common)
        for name, sign in figures.items():
            value, low, high = first.difference(second, name)
            ends = sorted((sign * low, sign * high))
            noise = math.hypot(known[one].noise(name), known[other].noise(name))
            said = statistics.verdict(*ends, sign * value, noise)
            more = known[one].info.tensor_bytes - known[other].info.tensor_bytes
            rows.append((one, other, name, value, low, high, noise, said, more))
    columns = ["recipe", "other", "figure", "difference", "low", "high", "noise", "verdict"]
    columns.append("bytes")
    return pd.DataFrame(rows, columns=columns)


def _windows_and_figures(recipe: Compared) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    with WindowStore.open(recipe.positions) as store:
        return np.flatnonzero(store.done), comparison.read_figures(store)


def beaten_by(recipes: list[Compared], compared: pd.DataFrame, figure: str = "score") -> list[str]:
    """For each recipe, the best one that is credibly better and no larger; empty where none is."""
    said = compared[compared.figure == figure].set_index(["recipe", "other"]).verdict
    score = {r.name: r.result["figures"][figure]["value"] for r in recipes}

    def better(one, other):
        if (one, other) in said.index:
            return said[one, other] == "better"
        return said[other, one] == "worse"

    found = []
    for r in recipes:
        beating = [
            o.name
            for o in recipes
            if o is not r and o.info.tensor_bytes <= r.info.tensor_bytes and better(o.name, r.name)
        ]
        found.append(min(beating, key=score.get, default=""))
    return found


def _of_imatrix(name: str, report: dict) -> str:
    """An imatrix in a sentence, with what calibration did not reach."""
    said = f"Imatrix {name}: {report['tokens']:,} tokens"
    if report["noise_median"] is not None:
        said += f", importances known to {report['noise_median']:.1%} (median over tensors)"
    if not report["unreached"]:
        return f"{said}; every weight was reached.\n"
    lacking = ", ".join(f"{tensor} ({n})" for tensor, n in report["unreached"].items())
    return f"{said}; **not reached** (number of matrices): {lacking}.\n"


def failures(entries: list[dict]) -> dict[str, str]:
    """Why some recipes could not be made, by name."""
    found = {entry["name"]: files.failure(entry["compare"]) for entry in entries}
    if found and all(found.values()):
        raise QuernError(f"no recipe could be made: {next(iter(found.values()))}")
    return {name: reason for name, reason in found.items() if reason}


def _notes(recipes: list[Compared]) -> str:
    """What the user should know of how recipes were made; the same of several once."""
    names: dict[str, list[str]] = {}
    for recipe in recipes:
        for note in recipe.made.get("notes", ()):
            names.setdefault(note, []).append(f"`{recipe.name}`")
    said = "".join(f"\n**{', '.join(of)}**: {note}\n" for note, of in names.items())
    vocabularies = {r.name: r.result["provenance"].get("vocabulary") for r in recipes}
    said += "".join(f"\n**`{name}`**: {note}\n" for name, note in vocabularies.items() if note)
    for note in dict.fromkeys(r.result["provenance"].get("beyond_training", "") for r in recipes):
        said += f"\n**{note}**\n" if note else ""
    return builds(recipes) + said + _unequal(recipes)


def _unequal(recipes: list[Compared]) -> str:
    """Recipes of one type whose sizes differ by their imatrix, by which llama.cpp chooses types."""
    sizes: dict[str, dict[float, list[str]]] = {}
    for r in (r for r in recipes if not r.foreign):
        asked, _, _ = r.name.partition("+")[0].partition("~")
        sizes.setdefault(asked, {}).setdefault(r.info.bits_per_weight, []).append(f"`{r.name}`")
    said = ""
    for asked, names in sizes.items():
        if len(names) > 1:
            parts = "; ".join(f"{bpw:.3f} for {', '.join(of)}" for bpw, of in names.items())
            said += (
                f"\n**Unequal sizes of `{asked}`**, in bits per weight: {parts}. llama.cpp chose "
                "other types for some tensors, so their differences are not the imatrix's alone.\n"
            )
    return said


def builds(recipes: list[Compared]) -> str:
    """A warning where figures that are compared were computed by several builds or devices."""
    origins = [r.result["provenance"] for r in recipes]
    said = [("the baseline", origin["baseline_computed_by"]) for origin in origins]
    said += [(f"`{r.name}`", o["computed_by"]) for r, o in zip(recipes, origins, strict=True)]
    by: dict[str, dict] = {}  # names in order, each once
    for name, build in said:
        by.setdefault(build or "a build that is not known", {})[name] = None
    if len(by) < 2:
        return ""
    parts = "; ".join(f"{', '.join(names)}: {build}" for build, names in sorted(by.items()))
    return (
        "\n**Several builds of llama.cpp, or devices, computed these figures**, so they hold the "
        f"builds' differences as well, which the noise does not. {parts}.\n"
    )


def markdown(frame: pd.DataFrame, title: str, imatrices: dict[str, dict], notes: str = "") -> str:
    """The table as GitHub Markdown, numbers to the right, and what to know to read it."""
    text = pd.DataFrame({c: frame[c].map(form.format) for c, form in COLUMNS.items()})
    text["type"] = text["type"].mask(frame.foreign, "foreign")
    for name in SHOWN_INTERVALS:
        interval = intervals(frame, name, COLUMNS[name])
        text.insert(text.columns.get_loc(name) + 1, f"{name} 95 %", interval)
    text["beaten by"] = frame.beaten_by
    align = ["left" if COLUMNS.get(c) == "{}" or c == "beaten by" else "right" for c in text]
    body = text.to_markdown(index=False, disable_numparse=True, colalign=align)
    return (
        f"# {title}\n\n{body}\n\n"
        f"KLD and score in nats, over {frame.windows.min()} windows; 95 % intervals over windows.\n"
        "*Fell back*: weights of another type than was meant, since their rows are no multiple of "
        "its blocks; a recipe's JSON names them.\n"
        "*Beaten by*: the best recipe that is no larger and whose score is credibly lower.\n"
        "Noise is how far a figure moves when the same model computes in graphs of another size: "
        f"mean KLD up to {frame.kld_mean_noise.max():.1e}, score {frame.score_noise.max():.1e}, "
        f"same top {frame.same_top_noise.max():.3%}; each recipe's own stands in the CSV. Recipes "
        "that differ by less than the noise of both are tied.\n"
        + "".join(f"\n{_of_imatrix(name, report)}" for name, report in imatrices.items())
        + notes
    )


def write(
    recipes: list[Compared],
    imatrices: dict[str, dict],
    failed: dict[str, str],
    title: str,
    warnings: Sequence[str] = (),
    *,
    csv: Path,
    pairs_csv: Path,
    markdown_path: Path,
    picture: Path,
) -> None:
    """Write the table (CSV, Markdown), the pairs (CSV) and the picture.

    Args:
        recipes: as `read` gives them.
        imatrices: reports of the imatrices that were collected, by name.
        failed: why other recipes could not be made, by name.
        warnings: llama.cpp's on the unquantized model.
    """
    frame, compared = table(recipes), pairs(recipes)
    frame["beaten_by"] = beaten_by(recipes, compared)
    lost = pd.DataFrame({"recipe": list(failed), "failed": list(failed.values())})
    whole = pd.concat([frame, lost]) if failed else frame
    for path, content in ((csv, whole), (pairs_csv, compared)):
        with files.replacing(path) as temporary:
            content.to_csv(temporary, index=False)
    with files.replacing(markdown_path) as temporary:
        notes = warned(warnings) + _notes(recipes) + failed_lines(failed)
        notes += foreign.against(recipes, compared)
        temporary.write_text(markdown(frame, title, imatrices, notes), encoding="utf-8")
    plots.divergence_against_size(frame, title, picture)
