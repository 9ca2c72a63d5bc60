"""Pictures. Each function takes finished figures and writes one file."""

from itertools import cycle
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from .. import files


def divergence_against_size(frame: pd.DataFrame, title: str, path: Path) -> None:
    """Mean KLD (log scale) with 95 % intervals against size in bits per weight, by recipe.

    Args:
        frame: columns type, imatrix, foreign, bpw, kld_mean, kld_mean_low, kld_mean_high.
    """
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    axes.set_yscale("log")
    groups = frame.groupby(["foreign", "imatrix"], sort=True)
    for marker, ((foreign, imatrix), rows) in zip(cycle("osD^vP*X"), groups, strict=False):
        label = "no imatrix" if imatrix == "none" else f"imatrix: {imatrix}"
        label = "foreign" if foreign else label
        ends = rows.kld_mean - rows.kld_mean_low, rows.kld_mean_high - rows.kld_mean
        axes.errorbar(
            rows.bpw, rows.kld_mean, ends, fmt=marker, label=label, alpha=0.8, capsize=3, lw=1
        )
    # One label a type, above its worst point: points of one type lie close together.
    for kind, rows in frame.groupby("type"):
        top = rows.loc[rows.kld_mean.idxmax()]
        axes.annotate(
            kind, (top.bpw, top.kld_mean), (0, 7), textcoords="offset points", ha="center", size=8
        )
    axes.set(xlabel="size (bits per weight)", ylabel="mean KLD (nats)", title=title)
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    save(figure, path)


def growth(result: dict, without: dict, title: str, path: Path) -> None:
    """Score and KLD percentiles against calibration tokens, with 95 % intervals.

    Args:
        result: `growth.choose`'s.
        without: figures of the types without an imatrix, where there are any.
    """
    steps, decision = result["steps"], result["decision"]
    tokens = [step["tokens"] for step in steps]
    kinds = list(steps[0]["figures"])
    figure, axes = plt.subplots(
        len(kinds), 2, figsize=(12, 3.8 * len(kinds)), layout="constrained", squeeze=False
    )
    for (left, right), kind in zip(axes, kinds, strict=True):
        groups = ((left, ["score"]), (right, ["kld_p99", "kld_p95", "kld_p90", "kld_median"]))
        for side, names in groups:
            for color, name in zip(cycle(plt.cm.tab10.colors), names, strict=False):
                rows = [step["figures"][kind][name] for step in steps]
                value = [r["value"] for r in rows]
                ends = [
                    [r["value"] - r["low"] for r in rows],
                    [r["high"] - r["value"] for r in rows],
                ]
                side.errorbar(tokens, value, ends, fmt="o-", capsize=3, label=name, color=color)
                if kind in without:
                    level = without[kind][name]["value"]
                    side.axhline(level, color=color, ls=":", lw=1)
            side.axvline(tokens[decision["chosen"]], color="k", lw=1, ls="--")
            side.set(xscale="log", xlabel="calibration tokens", title=f"{kind}")
            side.grid(alpha=0.3, which="both")
            # Beside the axes: the lines may lie anywhere within.
            note = "dotted: no imatrix" if kind in without else None
            side.legend(title=note, loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
        left.set(ylabel="score (nats)")
        right.set(ylabel="KLD (nats)", yscale="log")
    figure.suptitle(f"{title}: {decision['reason']}; dashed: chosen")
    save(figure, path)


def importances(frame: pd.DataFrame, title: str, path: Path) -> None:
    """Mean importance of each weight, layers × kinds of weights, log scale.

    Args:
        frame: `imatrix_statistics.table`'s.
    """
    grid = frame.pivot_table(index="layer", columns="kind", values="mean")
    figure, axes = plt.subplots(
        figsize=(1.5 + 0.7 * len(grid.columns), 2 + 0.22 * len(grid)), layout="constrained"
    )
    image = axes.imshow(np.log10(grid.where(grid > 0)), aspect="auto", cmap="viridis")
    axes.set_xticks(range(len(grid.columns)), grid.columns, rotation=45, ha="right")
    axes.set_yticks(range(len(grid)), ["-" if layer < 0 else layer for layer in grid.index])
    axes.set(ylabel="layer", title=title)
    figure.colorbar(image, label="log10 of the mean squared input")
    save(figure, path)


def save(figure, path: Path) -> None:
    """Write a figure and let go of it; the same figures give the same bytes."""
    with files.replacing(path) as temporary:
        # No date and no chance in the file.
        without = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        with plt.rc_context({"svg.hashsalt": "quern"}):
            figure.savefig(temporary, dpi=150, metadata=without)
    plt.close(figure)
