"""The tables of the context study: each size against the best, in three ways to change it."""

from itertools import cycle

import pandas as pd

from . import page
from .cells import Study, on_common_tokens
from .page import Page
from .paired import relative, stands

FIGURES = {"kld_median": "median", "kld_p95": "KLD95", "kld_p90": "KLD90"}
# What changes, and the sizes (calibration, evaluation) of a cell by the size that changes.
WAYS = {
    "calibration": ("As calibration context", lambda n, base: (n, base)),
    "evaluation": ("As evaluation context", lambda n, base: (base, n)),
    "both": ("Both together", lambda n, base: (n, n)),
}
# The finding that started this: at the size of its training, a model's median was lower by so much.
CLAIMED = (-0.14, -0.05)


def table(study: Study) -> Page:
    """Median, KLD95 and KLD90 by context, and how far each is from the best."""
    contexts, types = study.settings["contexts"], study.settings["types"]
    base, trained = study.settings["base"], _trained(study)
    pairs = len(contexts) * (len(contexts) - 1) // 2
    comparisons = max(1, len(types) * len(FIGURES) * pairs)
    rows, found, claims = [], {}, {}
    for way, (_, sizes) in WAYS.items():
        for kind in types:
            cells = [_cell(study, kind, sizes(n, base)) for n in contexts]
            measured = dict(zip(contexts, on_common_tokens(cells), strict=True))
            for figure in FIGURES:
                best = min(contexts, key=lambda n: measured[n].values[figure])
                for n in contexts:
                    other = measured[best] if n != best else None
                    difference = other and relative(measured[n], other, figure, comparisons)
                    found[way, kind, figure, n] = difference
                    labels = {"way": way, "type": kind, "context": n}
                    rows.append(
                        page.row(labels, figure, measured[n])
                        | page.against("more_than_best", difference)
                    )
            if trained in contexts:
                claims[way, kind] = {
                    n: relative(measured[trained], measured[n], "kld_median", comparisons)
                    for n in contexts
                    if n != trained
                }
    frame = pd.DataFrame(rows)
    text = "\n\n".join(
        f"## {title}\n\n{_grid(frame, way, found)}" for way, (title, _) in WAYS.items()
    )
    text += (
        f"\n\nKLD in nats. Where one context changes, the other stays at {base:,} tokens. Windows "
        "of several sizes are compared over the tokens that all sizes score, and resampled in "
        f"blocks of the longest. {page.correction(comparisons, 'blocks')} All pairs of sizes "
        "count, since the best is chosen by the data."
    )
    return Page(
        frame,
        _finding(study, found) + _held(study, claims),
        text,
        [title for title, _ in WAYS.values()],
        lambda axes: _draw(axes, study, found),
    )


def _trained(study):
    """Tokens of context that the model was trained on; 0 where nothing says so."""
    return study.settings["trained"] or study.info.context_length


def _cell(study, kind, sizes):
    calibrated, evaluated = sizes
    (cell,) = study.where(type=kind, calibration=calibrated, evaluation=evaluated)
    return cell


def _grid(frame, way, found):
    own = frame[frame.way == way]
    rows = []
    for (kind, n), some in own.groupby(["type", "context"], sort=False):
        line = {"type": kind, "context": f"{n:,}"}
        for r in some.itertuples():
            name = FIGURES[r.figure]
            line[name] = page.nats(r.value)
            line[f"{name}, more than best"] = str(found[way, kind, r.figure, n] or "best")
        rows.append(line)
    blocks = f"\n\nOver {own.units.min():,} blocks of windows."
    return page.markdown(rows, ["type"]) + blocks


def _finding(study, found):
    lines = []
    for way, (title, _) in WAYS.items():
        for kind in study.settings["types"]:
            for figure, name in FIGURES.items():
                own = {n: found[way, kind, figure, n] for n in study.settings["contexts"]}
                best = next(n for n, d in own.items() if d is None)
                rest = {f"{n:,}": d for n, d in own.items() if d}
                lines.append(
                    f"- {title}, {kind}, {name}: lowest at {best:,}; {page.said(rest) or 'alone'}."
                )
    return "\n".join(lines)


def _held(study, claims):
    trained = _trained(study)
    source = "The configuration says" if study.settings["trained"] else "The model's metadata say"
    said = f"\n\n{source} that it was trained on {trained:,} tokens of context."
    said = said if trained else "\n\nNothing says which context the model was trained on."
    said += (
        " The original's finding was that the median is 5 to 14 % lower at the size of its "
        "training than at others"
    )
    if not claims:
        return f"{said}; that size is not among these, so it is not tested here.\n"
    lines = [
        f"- {WAYS[way][0]}, {kind}, {trained:,} against {n:,}: {difference}: "
        f"{stands(difference, CLAIMED)}."
        for (way, kind), own in claims.items()
        for n, difference in own.items()
    ]
    return f"{said}. Held against it:\n\n" + "\n".join(lines) + "\n"


def _draw(axes, study, found):
    contexts = study.settings["contexts"]
    for ax, way in zip(axes, WAYS, strict=True):
        markers = zip(study.settings["types"], cycle("osD^v"))
        for kind, marker in markers:
            for shift, (figure, name) in enumerate(FIGURES.items()):
                places = [n * 1.03 ** (shift - 1) for n in contexts]  # side by side
                own = [found[way, kind, figure, n] for n in contexts]
                page.bars(ax, places, own, f"{kind}, {name}", fmt=f"{marker}-")
        ax.set_xscale("log", base=2)
        ax.set_xticks(contexts, [f"{n:,}" for n in contexts])
        ax.set(xlabel="context (tokens)")
    axes[0].set(ylabel="more than the best (%)")
    axes[-1].legend(fontsize=8)
