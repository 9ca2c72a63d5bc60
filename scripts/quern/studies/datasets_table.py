"""The tables of the data set study: all calibrations on all evaluations, and what entropy says."""

import itertools
import math

import numpy as np
import pandas as pd
from scipy import stats

from . import page
from .cells import Study, on_common_tokens
from .datasets import NONE
from .page import FIGURE, Page
from .paired import relative

DRAWS = 10_000  # permutations, where there are too many to try all
EXACT = 7  # so many things have 5,040 orders


def table(study: Study) -> Page:
    """Mean KLD of each pair, against the corpus's own imatrix and against none."""
    types, corpora = study.settings["types"], study.settings["corpora"]
    labels = list(dict.fromkeys(cell.labels["calibration"] for cell in study.cells))
    # Each but the own against the own, each but none against none; own against none is both.
    comparisons = len(types) * len(corpora) * (2 * (len(labels) - 1) - 1)
    rows, of_own, of_none, of_pair = [], {}, {}, {}
    for kind, corpus in itertools.product(types, corpora):
        cells = study.where(type=kind, evaluation=corpus)
        names = [cell.labels["calibration"] for cell in cells]
        measured = dict(zip(names, on_common_tokens(cells), strict=True))
        for name, one in measured.items():
            key = kind, corpus, name
            of_pair[key] = one.values[FIGURE]
            if name != corpus:
                of_own[key] = relative(one, measured[corpus], FIGURE, comparisons)
            if name != NONE:
                of_none[key] = relative(one, measured[NONE], FIGURE, comparisons)
            rows.append(
                page.row({"type": kind, "evaluation": corpus, "calibration": name}, FIGURE, one)
                | page.against("more_than_own", of_own.get(key))
                | page.against("more_than_none", of_none.get(key))
            )
    frame = pd.DataFrame(rows)
    entropies = {name: one.entropy for name, one in study.texts.items()}
    perplexities = {
        corpus: study.where(evaluation=corpus)[0].result["figures"]["ppl_base"]["value"]
        for corpus in corpora
    }
    text = (
        f"## Matrix\n\n{_matrix(types, corpora, labels, of_pair, of_own)}\n\n"
        "Mean KLD in nats, and in brackets how much more than by the corpus's own imatrix.\n\n"
        f"## Differences\n\n{_grid(frame, of_own, of_none)}\n\n"
        f"Over at least {frame.units.min():,} windows. {page.correction(comparisons)} Random text "
        f"is drawn once, its words from {corpora[0]}, so nothing is said of other draws.\n\n"
        f"## Texts\n\n{_texts(entropies, perplexities)}\n\n"
        "*Entropy*: of single tokens of the calibration, in bits a token. *Perplexity*: of the "
        "unquantized model on the corpus's evaluation part."
    )
    return Page(
        frame,
        _finding(types, corpora, of_own, of_none)
        + "\n\n"
        + _entropy(types, corpora, entropies, perplexities, of_pair),
        text,
        types,
        lambda axes: _draw(axes, types, corpora, labels, of_own),
    )


def _matrix(types, corpora, labels, of_pair, of_own):
    rows = []
    for kind, name in itertools.product(types, labels):
        line = {"type": kind, "calibrated on": name}
        for corpus in corpora:
            more = of_own.get((kind, corpus, name))
            line[f"on {corpus}"] = page.nats(of_pair[kind, corpus, name])
            line[f"on {corpus}"] += f" ({more.value:+.2%})" if more else " (own)"
        rows.append(line)
    return page.markdown(rows, ["type", "calibrated on"])


def _grid(frame, of_own, of_none):
    rows = []
    for r in frame.itertuples():
        key = r.type, r.evaluation, r.calibration
        rows.append(
            {
                "type": r.type,
                "evaluated on": r.evaluation,
                "calibrated on": r.calibration,
                "more than the own": str(of_own.get(key, "own")),
                "more than none": str(of_none.get(key, "")),
            }
        )
    return page.markdown(rows, rows[0])


def _texts(entropies, perplexities):
    rows = [
        {
            "text": name,
            "entropy": f"{entropy:.3f}",
            "perplexity": f"{perplexities[name]:.3f}" if name in perplexities else "",
        }
        for name, entropy in entropies.items()
    ]
    return page.markdown(rows, ["text"])


def _finding(types, corpora, of_own, of_none):
    lines = []
    for kind, corpus in itertools.product(types, corpora):
        for said, differences in (("its own imatrix", of_own), ("none", of_none)):
            own = {name: d for (t, c, name), d in differences.items() if (t, c) == (kind, corpus)}
            lines.append(f"- {kind} on {corpus}, against {said}: {page.said(own)}.")
    return "\n".join(lines)


def spearman(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The rank correlation of two samples, and its two-sided p by permuting one of them.

    All orders are tried of up to 7 values, which gives the exact p; else 10,000 at random, of which
    the one that was seen counts as one more.
    """
    one, other = stats.rankdata(x), stats.rankdata(y)
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0, 1.0
    if len(one) <= EXACT:
        orders, seen = np.array(list(itertools.permutations(one))), 0
    else:
        rng = np.random.default_rng(0)
        orders, seen = rng.permuted(np.tile(one, (DRAWS, 1)), axis=1), 1
    centred = other - other.mean()
    scale = np.linalg.norm(one - one.mean()) * np.linalg.norm(centred)
    rho = float(one @ centred / scale)
    extreme = np.abs(orders @ centred / scale) >= abs(rho) - 1e-9
    return rho, float((extreme.sum() + seen) / (len(orders) + seen))


def _entropy(types, corpora, entropies, perplexities, of_pair):
    """Whether calibrations of lower entropy, or texts that are easier, go with lower KLD."""

    def level(keys):
        return math.exp(np.mean([math.log(of_pair[key]) for key in keys]))  # geometric mean

    calibrated = [level(itertools.product(types, corpora, [name])) for name in corpora]
    evaluated = [level((kind, name, name) for kind in types) for name in corpora]
    tests = {
        "calibrations of lower entropy give lower KLD": (
            [entropies[c] for c in corpora],
            calibrated,
        ),
        "texts of lower perplexity have lower KLD": (
            [perplexities[c] for c in corpora],
            evaluated,
        ),
    }
    lines = []
    for claim, (x, y) in tests.items():
        rho, p = spearman(np.array(x), np.array(y))
        verdict = "cannot be told"
        if p < 0.05 / len(tests):
            verdict = "holds" if rho > 0 else "does not hold, the reverse does"
        lines.append(f"- That {claim}: {verdict} (Spearman {rho:+.2f}, p = {p:.2g}).")
    few = " With fewer than five, no order of them could decide it." if len(corpora) < 5 else ""
    return (
        f"The original explained differences by lower entropy. Across the {len(corpora)} corpora "
        f"given, by permutation, each at 0.05 / {len(tests)}.{few}\n\n" + "\n".join(lines) + "\n"
    )


def _draw(axes, types, corpora, labels, of_own):
    for ax, kind in zip(axes, types, strict=True):
        grid = np.array(
            [[100 * of_own[kind, c, n].value if n != c else 0.0 for c in corpora] for n in labels]
        )
        reach = max(1e-9, np.abs(grid).max())
        image = ax.imshow(grid, aspect="auto", cmap="RdBu_r", vmin=-reach, vmax=reach)
        for (i, j), value in np.ndenumerate(grid):
            more = of_own.get((kind, corpora[j], labels[i]))
            sure = "" if not more else "*" if more.verdict in ("better", "worse") else "?"
            color = "w" if abs(value) > 0.6 * reach else "k"
            ax.text(j, i, f"{value:+.1f}{sure}", ha="center", va="center", size=8, color=color)
        ax.set_xticks(range(len(corpora)), corpora, rotation=30, ha="right")
        ax.set_yticks(range(len(labels)), labels)
        ax.set(xlabel="evaluated on", ylabel="calibrated on")
        ax.figure.colorbar(image, label="more than the own imatrix (%); * credible, ? not told")
