"""Perplexities side by side: one table, in which each is held against the first."""

from pathlib import Path

import pandas as pd

from .. import QuernError, files
from ..measure import perplexity, summaries
from .phrases import failed_lines, intervals


def table(entries: list[dict]) -> pd.DataFrame:
    """One row a model.

    Args:
        entries: of each its `name`, and the paths `summary` and `positions` (JSON and HDF5 of
            perplexity.py).

    Returns:
        `model`; `ppl` with `_low`, `_high` (95 %) and `_plus_minus` (llama-perplexity's); `windows`
        and `positions`; and, but in the first row, `ln_ratio` with `_low` and `_high`: ln of the
        perplexity over that of the first, paired over the same windows. Ends are empty where there
        is no interval.

    Raises:
        QuernError: the figures are of other tokens, or nothing could be measured.
    """
    rows, first = [], None
    for entry in entries:
        if files.failure(entry["summary"]):
            continue
        found = summaries.read(entry["summary"], entry["positions"])
        row = {"model": entry["name"]}
        for key, value in found["figures"]["ppl"].items():
            row["ppl" if key == "value" else f"ppl_{key}"] = value
        row |= {key: found[key] for key in ("windows", "positions")}
        nll, attributes = perplexity.read(Path(entry["positions"]))
        own = perplexity.replicates(nll, attributes)
        if first is None:
            first, protocol = own, attributes
        else:
            perplexity.require_alike(protocol, attributes, entry["positions"])
            ratio = own.difference(first, "nll")
            row |= dict(zip(("ln_ratio", "ln_ratio_low", "ln_ratio_high"), ratio, strict=True))
        rows.append(row)
    if not rows:
        raise QuernError("there is no perplexity to show: no model could be measured.")
    columns = ["ln_ratio", "ln_ratio_low", "ln_ratio_high"]
    return pd.DataFrame(rows).reindex(columns=[*rows[0], *columns])


def markdown(frame: pd.DataFrame, title: str, protocol: dict) -> str:
    """The table as GitHub Markdown, and what to know to read it."""
    text = pd.DataFrame({"model": frame.model, "PPL": frame.ppl.map("{:.4f}".format)})
    text["±"] = frame.ppl_plus_minus.map("{:.5f}".format)
    text["95 %"] = intervals(frame, "ppl", "{:.4f}")
    text["ln(PPL / first)"] = frame.ln_ratio.map(lambda v: "" if pd.isna(v) else f"{v:+.6f}")
    text["95 % "] = intervals(frame, "ln_ratio", "{:+.6f}")
    align = ["left", *["right"] * 5]
    body = text.to_markdown(index=False, disable_numparse=True, colalign=align)
    stride = protocol["stride"]
    cut = (
        f"each begins {stride:,} tokens after the one before, and its last {stride:,} are scored, "
        "as llama-perplexity --ppl-stride does"
        if stride
        else "the second half of each is scored, as llama-perplexity does"
    )
    return (
        f"# {title}\n\n{body}\n\nOver {frame.windows.min():,} windows of {protocol['n_ctx']:,} "
        f"tokens; {cut}. ±: as llama-perplexity has it, as if positions were independent. 95 %: "
        "over windows; that of the ratio is paired, and so narrower than those of its two parts.\n"
    )


def write(entries: list[dict], title: str, *, csv: Path, markdown_path: Path) -> None:
    """Write the table as CSV and as Markdown.

    Raises:
        QuernError: as of `table`.
    """
    frame = table(entries)
    reasons = {entry["name"]: files.failure(entry["summary"]) for entry in entries}
    first = next(entry for entry in entries if not reasons[entry["name"]])
    found = files.read_json(first["summary"])
    protocol = found["provenance"]
    text = markdown(frame, title, protocol)
    text += failed_lines({name: reason for name, reason in reasons.items() if reason})
    for said in (protocol["beyond_training"], found.get("no_interval")):
        text += f"\n**{said}**\n" if said else ""
    with files.replacing(csv) as temporary:
        frame.to_csv(temporary, index=False)
    with files.replacing(markdown_path) as temporary:
        temporary.write_text(text, encoding="utf-8")
