"""Types of the K/V cache side by side: one table, in which each is held against the first."""

from pathlib import Path

import pandas as pd

from .. import files
from . import summary
from .phrases import failed_lines, intervals

COLUMNS = {
    "recipe": "{}",
    "cache": "{}",
    "flash": "{}",
    "kld_mean": "{:.6f}",
    "score": "{:.5f}",
    "same_top": "{:.3%}",
    "ppl_ratio": "{:.5f}",
}
FIGURES = {"kld_mean": 1, "score": 1}  # that are compared, low is good


def table(entries: list[dict]) -> pd.DataFrame:
    """One row a recipe and type of cache.

    Args:
        entries: as `summary.read` takes them, each with its `kv_type` and `flash`; a recipe's first
            is what its others are held against.

    Returns:
        `COLUMNS`; `_low` and `_high` of figures; and of mean KLD and score the paired `_difference`
        from the first type with its `_difference_low` and `_difference_high`, and a `_verdict`.
    """
    named = [e | {"name": f"{e['name']} {e['kv_type']} {e['flash']}"} for e in entries]
    compared = {r.name: r for r in summary.read(named)}
    kept = [(e, n["name"]) for e, n in zip(entries, named, strict=True) if n["name"] in compared]
    first: dict[str, str] = {}
    for entry, name in kept:
        first.setdefault(entry["name"], name)
    which = [(name, first[e["name"]]) for e, name in kept if name != first[e["name"]]]
    pairs = summary.pairs(list(compared.values()), which, FIGURES).set_index(["recipe", "figure"])
    rows = []
    for entry, name in kept:
        result = compared[name].result
        row = {"recipe": entry["name"], "cache": entry["kv_type"], "flash": entry["flash"]}
        row |= {"n_ctx": int(result["provenance"]["n_ctx"]), "windows": result["windows"]}
        for figure in [c for c in COLUMNS if c not in row]:
            value = result["figures"][figure]
            row |= {figure: value["value"]}
            row |= {f"{figure}_{end}": value[end] for end in ("low", "high")}
        for figure in FIGURES if name != first[entry["name"]] else ():
            found = pairs.loc[name, figure]
            row |= {f"{figure}_difference": found.difference, f"{figure}_verdict": found.verdict}
            row |= {f"{figure}_difference_{end}": found[end] for end in ("low", "high")}
        rows.append(row)
    return pd.DataFrame(rows)


def markdown(frame: pd.DataFrame, title: str, notes: str) -> str:
    """The table as GitHub Markdown, and what to know to read it."""
    text = pd.DataFrame({c: frame[c].map(form.format) for c, form in COLUMNS.items()})
    text.insert(4, "KLD 95 %", intervals(frame, "kld_mean", "{:.6f}"))
    text["KLD more than first"] = frame.kld_mean_difference.map(_signed)
    text["95 %"] = intervals(frame, "kld_mean_difference", "{:+.6f}")
    text["verdict"] = frame.kld_mean_verdict.fillna("")
    align = ["left" if c in ("recipe", "cache", "flash", "verdict") else "right" for c in text]
    body = text.to_markdown(index=False, disable_numparse=True, colalign=align)
    return (
        f"# {title}\n\n{body}\n\n"
        f"KLD and score in nats from the unquantized model with an f16 cache, at windows of "
        f"{frame.n_ctx.min():,} tokens, over {frame.windows.min()} windows. *KLD more than first*: "
        "the paired difference of mean KLD from the same recipe with the first type of cache, its "
        "95 % interval over windows, and the verdict.\n" + notes
    )


def _signed(value: float) -> str:
    return "" if pd.isna(value) else f"{value:+.6f}"


def write(entries: list[dict], title: str, *, csv: Path, markdown_path: Path) -> None:
    """Write the table as CSV and as Markdown.

    Raises:
        QuernError: no recipe could be made, or two comparisons have no windows in common.
    """
    frame, compared = table(entries), summary.read(entries)
    notes = summary.builds(compared) + failed_lines(summary.failures(entries))
    for note in dict.fromkeys(r.result["provenance"].get("beyond_training") for r in compared):
        notes += f"\n**{note}**\n" if note else ""
    with files.replacing(csv) as temporary:
        frame.to_csv(temporary, index=False)
    with files.replacing(markdown_path) as temporary:
        temporary.write_text(markdown(frame, title, notes), encoding="utf-8")
