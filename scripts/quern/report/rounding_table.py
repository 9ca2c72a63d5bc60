"""What each rounding does to a model, beside ggml's own: KLD, perplexity, time."""

from pathlib import Path

import pandas as pd

from .. import files
from . import summary

# How Markdown shows the figures, and whether low is good.
FIGURES = {
    "kld_mean": ("{:.6f}", 1),
    "kld_median": ("{:.6f}", 1),
    "kld_p99": ("{:.5f}", 1),
    "ppl_ratio": ("{:.4f}", 1),
    "same_top": ("{:.2%}", -1),
}


def table(entries: list[dict]) -> pd.DataFrame:
    """A row for each recipe: its figures with `_low`, `_high` and, but for ggml's, `_verdict`.

    The verdict is of the paired difference from the recipe with ggml's rounding: `better`, `worse`,
    `tied` or `cannot tell`.

    Args:
        entries: as for `summary.read`, and of each its `rounding`, `plain` (the name of the recipe
            that differs by ggml's rounding alone) and `benchmark` (Snakemake's, of the job that
            made it).
    """
    recipes = {recipe.name: recipe for recipe in summary.read(entries)}
    entries = [e for e in entries if e["name"] in recipes and e["plain"] in recipes]
    which = [(e["name"], e["plain"]) for e in entries if e["name"] != e["plain"]]
    signs = {name: sign for name, (_, sign) in FIGURES.items()}
    compared = summary.pairs(list(recipes.values()), which, signs)
    said = compared.set_index(["recipe", "figure"]).verdict
    rows = []
    for e in entries:
        recipe = recipes[e["name"]]
        row = {"type": recipe.type, "imatrix": recipe.imatrix, "rounding": e["rounding"]}
        for name in FIGURES:
            figure = recipe.result["figures"][name]
            row |= {name: figure["value"], f"{name}_low": figure["low"]}
            row |= {f"{name}_high": figure["high"]}
            row[f"{name}_verdict"] = "" if e["name"] == e["plain"] else said[e["name"], name]
        seconds = _seconds_of(Path(e["benchmark"]))
        rows.append(row | {"seconds": seconds, "windows": recipe.result["windows"]})
    return pd.DataFrame(rows)


def _seconds_of(benchmark: Path) -> float:
    """The time of a job, from Snakemake's benchmark (TSV)."""
    return float(pd.read_csv(benchmark, sep="\t")["s"].iloc[0])


def markdown(frame: pd.DataFrame, title: str) -> str:
    """The table as GitHub Markdown, one for each imatrix."""
    parts = [f"# {title}\n"]
    for imatrix, rows in frame.groupby("imatrix", sort=True):
        text = rows[["type", "rounding"]].copy()
        for name, (form, _) in FIGURES.items():
            text[name] = [
                f"{form.format(value)} [{form.format(low)}, {form.format(high)}] {verdict}".strip()
                for value, low, high, verdict in zip(
                    *(rows[name + end] for end in ("", "_low", "_high", "_verdict")), strict=True
                )
            ]
        text["seconds"] = rows.seconds.map("{:.1f}".format)
        said = "without an imatrix" if imatrix == "none" else f"with the imatrix {imatrix}"
        body = text.to_markdown(index=False, disable_numparse=True)
        parts.append(f"## {said[0].upper()}{said[1:]}\n\n{body}\n")
    parts.append(
        f"KLD in nats over {frame.windows.min()} windows, with 95 % intervals over windows. Words: "
        "the paired difference from ggml's rounding.\nSeconds: of llama.cpp's quantization, or of "
        "the rounding after it, start-up included.\n"
    )
    return "\n".join(parts)


def write(frame: pd.DataFrame, title: str, *, csv: Path, markdown_path: Path) -> None:
    """Write the table as CSV and Markdown."""
    with files.replacing(csv) as temporary:
        frame.to_csv(temporary, index=False)
    with files.replacing(markdown_path) as temporary:
        temporary.write_text(markdown(frame, title), encoding="utf-8")
