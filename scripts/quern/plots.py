"""Pictures. Each function takes finished figures and writes one file."""

from itertools import cycle
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd

from . import files


def divergence_against_size(frame: pd.DataFrame, title: str, path: Path) -> None:
    """Mean KLD (log scale) with 95 % intervals against size in bits per weight, by recipe.

    Args:
        frame: columns type, imatrix, bpw, kld_mean, kld_mean_low, kld_mean_high.
    """
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    axes.set_yscale("log")
    groups = frame.groupby("imatrix", sort=True)
    for marker, (imatrix, rows) in zip(cycle("osD^vP*X"), groups, strict=False):
        label = "no imatrix" if imatrix == "none" else f"imatrix: {imatrix}"
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
    with files.replacing(path) as temporary:
        # No date in the file: the same figures give the same bytes.
        figure.savefig(temporary, dpi=150, metadata={"Software": None})
    plt.close(figure)
