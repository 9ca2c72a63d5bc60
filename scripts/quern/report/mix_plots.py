"""Pictures of mixes: damage by tensor, the types chosen, divergence by size."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib import pyplot as plt

from .plots import save

_BLOCK = re.compile(r"blk\.(\d+)\.(.+)\.weight$")
_OUTLINE = patheffects.withStroke(linewidth=1.2, foreground="black")
_APART = -1  # the layer of what is in no block


def mixes(found: list[dict], title: str, path: Path) -> None:
    """Damage alone and the types of each mix, layer × role; divergence against size.

    Args:
        found: mixes of one model, as `mix.search.search` gives them.
    """
    found = sorted(found, key=_by_bytes)
    places = _places(list(found[0]["tensors"]))
    columns = min(3, 2 + len(found))
    rows = -(-(2 + len(found)) // columns)
    width, height = 1.5 + 0.5 * places.role.nunique(), 1.5 + 0.28 * places.layer.nunique()
    figure, grid = plt.subplots(
        rows,
        columns,
        figsize=(max(width, 5) * columns, max(height, 4) * rows),
        layout="constrained",
        squeeze=False,
    )
    axes = list(grid.flat)
    for empty in axes[2 + len(found) :]:
        empty.set_axis_off()
    axes = axes[: 2 + len(found)]
    damage = {n: r["probe_damage"] for n, r in found[0]["tensors"].items()}
    logs = {n: np.log10(d) if d and d > 0 else np.nan for n, d in damage.items()}
    image = _grid(axes[0], places, logs, {}, cmap="magma")
    axes[0].set(title="damage alone (log10 nats)", ylabel="layer")
    figure.colorbar(image, ax=axes[0])
    for side, mix in zip(axes[1:-1], found, strict=True):
        rows = mix["tensors"].items()
        bits = {name: 8 * row["bytes"] / row["weights"] for name, row in rows}
        texts = {name: row["type"].replace("_", "\n", 1) for name, row in rows}
        _grid(side, places, bits, texts, cmap="viridis", vmin=2, vmax=9)
        side.set(title=f"{mix['size']} ({mix['chosen']})")
    _curve(axes[-1], found)
    figure.suptitle(title)
    save(figure, path)


def _by_bytes(mix: dict) -> int:
    return mix["file_bytes"]


def _places(names: list[str]) -> pd.DataFrame:
    """The layer and the role of each tensor."""
    found = [_BLOCK.match(name) for name in names]
    return pd.DataFrame(
        {
            "name": names,
            "layer": [int(f[1]) if f else _APART for f in found],
            "role": [
                f[2] if f else name.removesuffix(".weight")
                for f, name in zip(found, names, strict=True)
            ],
        }
    )


def _grid(axes, places: pd.DataFrame, values: dict[str, float], texts: dict[str, str], **options):
    """Values by layer and role, with a text in each field."""
    table = places.assign(value=places.name.map(values))
    grid = table.pivot_table(index="layer", columns="role", values="value", dropna=False)
    image = axes.imshow(grid.to_numpy(float), aspect="auto", **options)
    rows, columns = list(grid.index), list(grid.columns)
    axes.set_xticks(range(len(columns)), columns, rotation=60, ha="right", size=7)
    axes.set_yticks(range(len(rows)), ["–" if n < 0 else n for n in rows], size=7)
    for place in places.itertuples():
        if place.name in texts:
            at = columns.index(place.role), rows.index(place.layer)
            text = axes.annotate(texts[place.name], at, ha="center", va="center", size=6)
            text.set(color="white", path_effects=[_OUTLINE])
    return image


def _curve(axes, found: list[dict]) -> None:
    """Divergence against megabytes: mixes, what was predicted of them, stock mixes."""
    sizes = [mix["tensor_bytes"] / 1e6 for mix in found]
    _points(axes, sizes, [mix["measured"]["kld_mean"] for mix in found], "o-", "mixes")
    # What is predicted of `compensated` is measured with `importance` in its place.
    rounded = {m["rounding"] for m in found} & {"compensated"}
    label = ", ".join(["mixes, predicted", *rounded])
    axes.plot(sizes, [m["predicted"]["kld"] for m in found], "k:", lw=1, label=label)
    stock = {name: rival for mix in found for name, rival in mix["rivals"].items()}
    figures = [rival["measured"]["kld_mean"] for rival in stock.values()]
    places = [rival["bytes"] / 1e6 for rival in stock.values()]
    _points(axes, places, figures, "s", "stock mixes")
    for name, place, figure in zip(stock, places, figures, strict=True):
        at = place, figure["value"]
        axes.annotate(name, at, (0, 6), textcoords="offset points", size=7, ha="center")
    axes.set(yscale="log", xlabel="MB of tensors", ylabel="mean KLD (nats), windows held back")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)


def _points(axes, sizes, figures, form, label) -> None:
    values = [f["value"] for f in figures]
    ends = [[abs(f["value"] - f[end]) for f in figures] for end in ("low", "high")]
    axes.errorbar(sizes, values, ends, fmt=form, capsize=3, lw=1, label=label)
