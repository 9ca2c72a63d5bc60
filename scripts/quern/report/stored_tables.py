"""The summary's tables, as they are read back."""

import io
from pathlib import Path

import pandas as pd

from .. import QuernError, files

_RECIPES = ("recipe", "foreign", "bytes", "bpw", "kld_mean", "score", "beaten_by")
_PAIRS = ("recipe", "other", "figure", "difference", "low", "high", "verdict")


def recipes(path: Path) -> pd.DataFrame:
    """The table of recipes, as `summary.table` gives it, with those that failed.

    Raises:
        QuernError: it is missing, was changed since, or is another table.
    """
    return _read(path, _RECIPES, "recipes")


def pairs(path: Path) -> pd.DataFrame:
    """The table of pairs, as `summary.pairs` gives it.

    Raises:
        QuernError: it is missing, was changed since, or is another table.
    """
    return _read(path, _PAIRS, "pairs of recipes")


def _read(path, columns, what):
    content = files.read_summed(path)
    try:
        found = pd.read_csv(io.BytesIO(content))
    except ValueError as error:
        raise QuernError(f"{path} is no table of {what} ({error}).") from None
    if lacking := [column for column in columns if column not in found]:
        raise QuernError(f"{path} is no table of {what}: it has no column {lacking[0]}.")
    return found
