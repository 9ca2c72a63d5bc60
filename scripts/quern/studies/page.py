"""What the pages of all studies share: tables, how differences are said, pictures, notes."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import pandas as pd

from ..report import plots, summary
from ..report.phrases import listed
from .cells import Study
from .paired import Measured, Relative

FIGURE = "kld_mean"  # what most studies compare


@dataclass(frozen=True)
class Page:
    """What a study found.

    Attributes:
        frame: its rows, for the CSV.
        finding: in Markdown, no stronger than the intervals allow.
        tables: in Markdown, with what to know to read them.
        draw: draws on the axes that it is given.
        panels: titles of the pictures side by side, of which each has its axes.
    """

    frame: pd.DataFrame
    finding: str
    tables: str
    panels: list[str]
    draw: Callable[[list], None]


def row(labels: dict, figure: str, measured: Measured) -> dict:
    """A row's labels, its figure, the windows or blocks behind it, and the spread of its seeds."""
    found = {**labels, "figure": figure, "value": measured.values[figure], "units": measured.units}
    spread = measured.spread.get(figure)
    return found | {"seeds": measured.seeds, "spread": spread}


def against(name: str, difference: Relative | None) -> dict:
    """A difference as columns of the CSV, whose names begin with `name`."""
    found = difference or Relative(*[None] * 5)
    columns = {f"{name}_{key}": value for key, value in found._asdict().items()}
    columns[name] = columns.pop(f"{name}_value")
    return columns


def markdown(rows: list[dict], left: Collection[str]) -> str:
    """Rows as a table of GitHub Markdown; the columns `left` to the left, numbers to the right."""
    frame = pd.DataFrame(rows).fillna("")
    align = ["left" if column in left else "right" for column in frame]
    return frame.to_markdown(index=False, disable_numparse=True, colalign=align)


def nats(value: float) -> str:
    """A divergence."""
    return f"{value:.6f}"


def said(differences: dict[str, Relative]) -> str:
    """Differences from one reference in a sentence, by verdict."""
    parts = []
    for verdict in ("better", "worse"):
        some = [
            f"{name} ({d.value:+.2%})" for name, d in differences.items() if d.verdict == verdict
        ]
        parts += [f"{verdict}: {listed(some)}"] if some else []
    rest = [name for name, d in differences.items() if d.verdict in ("cannot tell", "tied")]
    parts += [f"not told apart: {listed(rest)}"] if rest else []
    return "; ".join(parts)


def correction(comparisons: int, units: str = "windows") -> str:
    """How the intervals are to be read."""
    return (
        f"Differences are relative and paired over {units}. The table has {comparisons} of them, "
        f"so each has an interval of confidence 1 - 0.05 / {comparisons} (Bonferroni), and with "
        "95 % all hold at once. *Tied*: within the noise of both; *cannot tell*: the interval "
        "holds 0."
    )


def notes(study: Study) -> str:
    """What should be known of all cells: sizes of calibrations, builds, windows too long."""
    sizes: dict[int, list[str]] = {}
    for name, report in study.imatrices.items():
        sizes.setdefault(report["tokens"], []).append(name)
    said = [f"{tokens:,} tokens ({', '.join(names)})" for tokens, names in sizes.items()]
    said = f"\nCalibrated on {'; '.join(said)}.\n" if said else ""
    of = [cell.result["provenance"] for cell in study.cells] + list(study.imatrices.values())
    beyond = dict.fromkeys(facts.get("beyond_training") for facts in of)
    return said + summary.builds(study.cells) + "".join(f"\n**{b}**\n" for b in beyond if b)


def draw(page: Page, title: str, path) -> None:
    """The picture of a page, one panel beside the other."""
    n = len(page.panels)
    figure, axes = plots.plt.subplots(
        1, n, figsize=(1 + 4.5 * n, 4.5), layout="constrained", squeeze=False
    )
    for ax, panel in zip(axes[0], page.panels, strict=True):
        ax.set_title(panel, size=10)
    page.draw(list(axes[0]))
    figure.suptitle(title)
    plots.save(figure, path)


def bars(ax, places, differences: Iterable[Relative | None], label: str, **style) -> None:
    """Differences in percent with their intervals, at some places; those of a reference at 0."""
    found = [d or Relative(0, 0, 0, 0, "") for d in differences]
    value = [100 * d.value for d in found]
    ends = [[100 * (d.value - d.low) for d in found], [100 * (d.high - d.value) for d in found]]
    ax.errorbar(places, value, ends, capsize=3, lw=1, label=label, **style)
    ax.axhline(0, color="k", lw=0.5)
    ax.grid(alpha=0.3)
