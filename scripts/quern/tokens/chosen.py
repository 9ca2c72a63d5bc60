"""Some windows of a text: those with the highest or the lowest divergence, or some at random."""

import csv
from pathlib import Path

import numpy as np

from .. import QuernError, files

FIGURE = "kld_mean"  # of a window, nats


def by_divergence(comparison: Path, windows: int, which: str) -> np.ndarray:
    """The windows with the highest or lowest mean KLD, rising int [windows]; of ties the first.

    Args:
        comparison: CSV from compare.py, a row for each window that was compared.
        which: `highest` or `lowest`.

    Raises:
        QuernError: the table is missing, was changed since, has no such figures, or fewer windows.
    """
    try:
        lines = files.read_summed(comparison).decode().splitlines()
        rows = [(int(row["window"]), float(row[FIGURE])) for row in csv.DictReader(lines)]
    except (KeyError, ValueError, TypeError) as error:
        raise QuernError(f"{comparison} is no table of windows ({error!r}).") from None
    numbers, figures = (np.array(column) for column in zip(*sorted(rows), strict=True))
    _require(windows, len(numbers), str(comparison))
    order = np.argsort(-figures if which == "highest" else figures, kind="stable")
    return np.sort(numbers[order[:windows]])


def at_random(available: int, windows: int, seed: int, what: str) -> np.ndarray:
    """Windows at random, rising int [windows]; more of the same seed hold those of fewer.

    Args:
        available: how many there are.
        what: is named in an error.

    Raises:
        QuernError: there are fewer windows.
    """
    _require(windows, available, what)
    return np.sort(np.random.default_rng(seed).permutation(available)[:windows])


def _require(windows, available, what):
    if windows > available:
        raise QuernError(f"{what} has {available} windows, fewer than {windows}; choose fewer.")
