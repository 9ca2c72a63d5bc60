"""What tables and sentences in Markdown have in common."""

from collections.abc import Iterable, Mapping

import pandas as pd


def listed(items: Iterable[str]) -> str:
    """Some things in a sentence: `a`, `a and b`, `a, b and c`; `none` where there are none."""
    *most, last = list(items) or ["none"]
    return f"{', '.join(most)} and {last}" if most else last


def intervals(frame: pd.DataFrame, figure: str, form: str) -> list[str]:
    """The interval of a figure in each row; empty where it has none."""
    ends = zip(frame[f"{figure}_low"], frame[f"{figure}_high"], strict=True)
    return ["" if pd.isna(a) else f"{form.format(a)} – {form.format(b)}" for a, b in ends]


def warned(warnings: Iterable[str]) -> str:
    """A line for each of llama.cpp's warnings on the unquantized model."""
    return "".join(f"\n**llama.cpp warns of the unquantized model**: `{w}`\n" for w in warnings)


def failed_lines(reasons: Mapping[str, str]) -> str:
    """A line for each recipe that failed, by its name, with the reason."""
    return "".join(f"\n**`{name}` failed**: {why}\n" for name, why in reasons.items())
