"""The table of the subsampling study: parts of a pool against all of it, and against chance."""

import pandas as pd

from . import page
from .cells import Study, on_common_tokens
from .page import FIGURE, Page
from .paired import mean, relative, stands
from .subsampling import FULL, NONE, WHICH

# The finding that started this: the hardest part of a pool did better than all of it by so much.
CLAIMED = (-0.0051, -0.0027)
CHOSEN = [which for which in WHICH if which != "random"]


def table(study: Study) -> Page:
    """Mean KLD by part of the pool, against all of it, and against as many windows at random."""
    types, ladder = study.settings["types"], study.settings["ladder"]
    parts = [(which, k) for k in ladder for which in WHICH]
    comparisons = len(types) * (1 + len(parts) + len(CHOSEN) * len(ladder))
    rows, of_all, of_chance = [], {}, {}
    for kind in types:
        measured = _measured(study, kind)
        full = measured[FULL, None]
        for (which, k), whole in measured.items():
            if which != FULL:
                of_all[kind, which, k] = relative(whole, full, FIGURE, comparisons)
            if which in CHOSEN:
                chance = measured["random", k]
                of_chance[kind, which, k] = relative(whole, chance, FIGURE, comparisons)
            labels = {"type": kind, "which": which}
            labels["windows"] = {NONE: 0, FULL: study.settings["pool_windows"]}.get(which, k)
            rows.append(
                page.row(labels, FIGURE, whole)
                | page.against("more_than_full", of_all.get((kind, which, k)))
                | page.against("more_than_random", of_chance.get((kind, which, k)))
            )
    frame = pd.DataFrame(rows)
    text = _grid(frame, of_all, of_chance) + (
        f"\n\nMean KLD in nats over {frame.units.min():,} windows. *Which*: the windows of the "
        f"pool in which {study.settings['judge']} without an imatrix strays most, least, or some "
        f"at random, of which the mean over seeds stands here. {page.correction(comparisons)} An "
        "interval holds the windows and, where there are several, the seeds."
    )
    lines = []
    for kind in types:
        named = {
            f"{which} {k}" if k else which: d for (t, which, k), d in of_all.items() if t == kind
        }
        lines.append(f"- {kind}, against the full pool: {page.said(named)}.")
        named = {f"{which} {k}": d for (t, which, k), d in of_chance.items() if t == kind}
        lines.append(f"- {kind}, against as many windows at random: {page.said(named)}.")
    return Page(
        frame,
        "\n".join(lines) + "\n\n" + _held(types, ladder, of_all),
        text,
        types,
        lambda axes: _draw(axes, types, ladder, of_all),
    )


def _measured(study, kind):
    """The rows of a type by what was chosen and how many windows; of several seeds the mean."""
    own = study.where(type=kind)
    groups = {}
    for cell, one in zip(own, on_common_tokens(own), strict=True):
        which = cell.labels["which"]
        k = cell.labels["windows"] if which in WHICH else None
        groups.setdefault((which, k), []).append(one)
    return {key: mean(some) for key, some in groups.items()}


def _grid(frame, of_all, of_chance):
    rows = []
    for r in frame.itertuples():
        key = r.type, r.which, r.windows if r.which in WHICH else None
        rows.append(
            {
                "type": r.type,
                "which": r.which,
                "windows": f"{r.windows:,}",
                "seeds": f"{r.seeds}",
                "KLD": page.nats(r.value),
                "between seeds": "" if pd.isna(r.spread) else page.nats(r.spread),
                "more than the full pool": str(of_all.get(key, "")),
                "more than at random": str(of_chance.get(key, "")),
            }
        )
    left = ["type", "which", "more than the full pool", "more than at random"]
    return page.markdown(rows, left)


def _held(types, ladder, of_all):
    lines = [
        f"- {kind}, highest {k}: {d}: {stands(d, CLAIMED)}."
        for kind in types
        for k in ladder
        for d in [of_all[kind, "highest", k]]
    ]
    return (
        "The original's finding was that the hardest part of a pool did 0.27 to 0.51 % better than "
        "all of it, within the margin of error. Held against it:\n\n" + "\n".join(lines) + "\n"
    )


def _draw(axes, types, ladder, of_all):
    for ax, kind in zip(axes, types, strict=True):
        for shift, which in enumerate(WHICH):
            places = [k * 1.03 ** (shift - 1) for k in ladder]  # side by side
            page.bars(ax, places, [of_all[kind, which, k] for k in ladder], which, fmt="o-")
        none = of_all[kind, NONE, None]
        ax.axhline(100 * none.value, color="C3", ls=":", label="no imatrix")
        ax.set_xscale("log", base=2)
        ax.set_xticks(ladder, [f"{k:,}" for k in ladder])
        ax.set(xlabel="windows", ylabel="more than the full pool (%)")
        ax.legend(fontsize=8)
