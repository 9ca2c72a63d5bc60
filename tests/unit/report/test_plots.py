"""Each picture is a PNG, and the same figures are the same bytes."""

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from quern.report import plots


def recipes(worst=0.2):
    """Finished figures of six recipes, with and without an imatrix."""
    rows = [
        (kind, imatrix, kind == "Q4_0", bpw, kld, kld * 0.8, kld * 1.3)
        for kind, bpw, kld in (("Q2_K", 2.7, worst), ("Q4_0", 4.5, 0.01), ("Q8_0", 8.5, 1e-4))
        for imatrix in ("none", "wiki")
    ]
    columns = ["type", "imatrix", "foreign", "bpw", "kld_mean", "kld_mean_low", "kld_mean_high"]
    return pd.DataFrame(rows, columns=columns)


def figures(size):
    names = ("score", "kld_median", "kld_p90", "kld_p95", "kld_p99")
    values = {name: (i + 1) / size for i, name in enumerate(names)}
    return {n: {"value": v, "low": v * 0.9, "high": v * 1.2} for n, v in values.items()}


def growth_result():
    steps = [
        {"tokens": 512 << k, "figures": {kind: figures(k + 2) for kind in ("Q2_K",)}}
        for k in range(3)
    ]
    return {"steps": steps, "decision": {"chosen": 1, "reason": "the pool is used up"}}


def importances(zero=True):
    """Kinds of weights of two layers and of none, one of them never reached."""
    rows = [(layer, kind, 10.0 ** (layer + i)) for layer in (0, 1) for i, kind in enumerate("abc")]
    rows.append((-1, "output", 0.0 if zero else 5.0))
    return pd.DataFrame(rows, columns=["layer", "kind", "mean"])


DRAWN = {
    "divergence": (plots.divergence_against_size, (recipes(),), (recipes(0.3),)),
    "growth": (
        plots.growth,
        (growth_result(), {"Q2_K": figures(1)}),
        (growth_result(), {}),
    ),
    "importances": (plots.importances, (importances(),), (importances(False),)),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_may_be_svg(name, tmp_path):
    draw, some, _ = DRAWN[name]
    for file in ("a.svg", "b.svg"):
        draw(*some, "some model", tmp_path / file)
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_is_the_same_bytes_for_the_same_figures_only(name, tmp_path):
    draw, some, others = DRAWN[name]
    before = plots.plt.get_fignums()
    for file, arguments in (("a", some), ("b", some), ("c", others)):
        draw(*arguments, "some model", tmp_path / f"{file}.png")
    a, b, c = ((tmp_path / f"{file}.png").read_bytes() for file in "abc")
    assert a == b != c
    assert a.startswith(b"\x89PNG\r\n\x1a\n")
    pixels = matplotlib.image.imread(tmp_path / "a.png")
    assert min(pixels.shape[:2]) > 200 and len(np.unique(pixels)) > 10
    assert plots.plt.get_fignums() == before  # none stays open
