"""All recipes of a model side by side: one table and one picture."""

from pathlib import Path

import pandas as pd

from . import files, plots
from .gguf_files import ModelInfo

COLUMNS = {
    "recipe": "{}",
    "type": "{}",
    "imatrix": "{}",
    "bytes": "{:,.0f}",
    "bpw": "{:.3f}",
    "kld_mean": "{:.6f}",
    "kld_median": "{:.6f}",
    "kld_90": "{:.5f}",
    "kld_95": "{:.5f}",
    "kld_99": "{:.5f}",
    "score": "{:.5f}",
    "ppl_ratio": "{:.5f}",
    "same_top": "{:.3%}",
}


def table(recipes: list[str], infos: list[Path], comparisons: list[Path]) -> pd.DataFrame:
    """One row a recipe, by falling size; columns as in `COLUMNS`.

    Args:
        recipes: `name:type:imatrix` of each recipe.
        infos, comparisons: the JSON of each quantized model and of its comparison.
    """
    rows = []
    for recipe, info_path, comparison in zip(recipes, infos, comparisons, strict=True):
        name, kind, imatrix = recipe.split(":")
        info, result = ModelInfo.read(info_path), files.read_json(comparison)
        kld = result["kld"]
        rows.append(
            {
                "recipe": name,
                "type": kind,
                "imatrix": imatrix,
                "bytes": info.file_bytes,
                "bpw": info.bits_per_weight,
                "kld_mean": kld["mean"],
                "kld_median": kld["median"],
                "kld_90": kld["p90"],
                "kld_95": kld["p95"],
                "kld_99": kld["p99"],
                "score": result["score"],
                "ppl_ratio": result["ppl_ratio"],
                "same_top": result["same_top"],
            }
        )
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.sort_values(["bytes", "recipe"], ascending=[False, True], ignore_index=True)


def markdown(frame: pd.DataFrame) -> str:
    """The table as GitHub Markdown; numbers to the right."""
    text = pd.DataFrame({c: frame[c].map(form.format) for c, form in COLUMNS.items()})
    align = ["left" if form == "{}" else "right" for form in COLUMNS.values()]
    return text.to_markdown(index=False, disable_numparse=True, colalign=align) + "\n"


def write(frame: pd.DataFrame, title: str, csv: Path, markdown_path: Path, picture: Path) -> None:
    """Write the table as CSV and Markdown, and the picture."""
    with files.replacing(csv) as temporary:
        frame.to_csv(temporary, index=False)
    with files.replacing(markdown_path) as temporary:
        temporary.write_text(f"# {title}\n\n{markdown(frame)}")
    plots.divergence_against_size(frame, title, picture)
