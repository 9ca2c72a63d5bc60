"""The table of the order study: each order, the mean over its seeds, against that of documents."""

import pandas as pd

from . import page
from .cells import Study, on_common_tokens
from .order import ORDERED
from .page import FIGURE, Page
from .paired import mean, relative


def table(study: Study) -> Page:
    """Mean KLD by order, the spread between seeds, and the difference from `documents`."""
    types = study.settings["types"]
    orders = [o for o in dict.fromkeys(c.labels["order"] for c in study.cells) if o != ORDERED]
    comparisons = max(1, len(types) * len(orders))
    rows, found, seeds = [], {}, {}
    for kind in types:
        own = study.where(type=kind)
        measured = on_common_tokens(own)
        for cell, one in zip(own, measured, strict=True):
            seeds.setdefault((kind, cell.labels["order"]), []).append(one)
        reference = seeds[kind, ORDERED][0]
        for order in [ORDERED, *orders]:
            whole = mean(seeds[kind, order])
            difference = (
                None if order == ORDERED else relative(whole, reference, FIGURE, comparisons)
            )
            found[kind, order] = difference
            labels = {"type": kind, "order": order, "seed": "all"}
            rows.append(
                page.row(labels, FIGURE, whole) | page.against("more_than_documents", difference)
            )
            rows += [
                page.row(labels | {"seed": seed}, FIGURE, one)
                for seed, one in enumerate(seeds[kind, order])
            ]
    frame = pd.DataFrame(rows)
    text = _grid(frame, found) + (
        f"\n\nMean KLD in nats over {frame.units.min():,} windows; of several seeds, the mean, and "
        "*between seeds* their standard deviation. All orders are of the same tokens, in the same "
        f"number of windows. {page.correction(comparisons)} An interval holds the windows and, as "
        "other seeds would give another mean, the seeds."
    )
    lines = [
        f"- {kind}, against the order of the documents: "
        f"{page.said({order: found[kind, order] for order in orders})}."
        for kind in types
    ]
    return Page(
        frame,
        "\n".join(lines) + "\n",
        text,
        types,
        lambda axes: _draw(axes, types, [ORDERED, *orders], found, seeds),
    )


def _grid(frame, found):
    rows = [
        {
            "type": r.type,
            "order": r.order,
            "seeds": f"{r.seeds}",
            "KLD": page.nats(r.value),
            "between seeds": "" if pd.isna(r.spread) else page.nats(r.spread),
            "more than documents": str(found[r.type, r.order] or ""),
        }
        for r in frame[frame.seed == "all"].itertuples()
    ]
    return page.markdown(rows, ["type", "order", "more than documents"])


def _draw(axes, types, orders, found, seeds):
    for ax, kind in zip(axes, types, strict=True):
        places = range(len(orders))
        page.bars(ax, places, [found[kind, o] for o in orders], "mean", fmt="o", color="k")
        reference = seeds[kind, ORDERED][0].values[FIGURE]
        for place, order in enumerate(orders):
            own = [100 * (one.values[FIGURE] / reference - 1) for one in seeds[kind, order]]
            ax.plot([place + 0.15] * len(own), own, "_", color="C0", ms=12)
        ax.set_xticks(places, orders, rotation=30, ha="right", fontsize=8)
        ax.set(ylabel="more than documents (%)")
