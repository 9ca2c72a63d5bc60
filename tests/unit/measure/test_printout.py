"""What is printed, read back: every figure that llama-perplexity prints, with its value."""

import re

import numpy as np
import pytest

from quern import gguf_files
from quern.llama import Way
from quern.measure import comparison, printout, statistics
from quern.measure.baseline import Baseline
from quern.measure.divergence import FIGURES
from quern.measure.window_store import WindowStore

PLACES = {"Maximum": "max", "Median": "median", "Minimum": "min", "Mean": "mean"}
FRACTIONS = ("99.9", "99.0", "95.0", "90.0", "75.0", "25.0", "10.0", "5.0", "1.0", "0.1")
PLACES |= {f"{x}%": f"p{float(x):g}" for x in FRACTIONS}
NAMES = {
    "Mean PPL(Q)": "ppl",
    "Mean PPL(base)": "ppl_base",
    "Cor(ln(PPL(Q)), ln(PPL(base)))": "ppl_correlation",
    "Mean ln(PPL(Q)/PPL(base))": "ln_ppl_ratio",
    "Mean PPL(Q)/PPL(base)": "ppl_ratio",
    "Mean PPL(Q)-PPL(base)": "ppl_difference",
    "RMS Δp": "dp_rms",
    "Same top p": "same_top",
    "Score": "score",
}
NUMBER = r"(-?\d+\.\d+)"
LINE = re.compile(rf"(.+?) *: +{NUMBER}(?: ± +{NUMBER})?( ?%)?(?: +\[ *{NUMBER}, +{NUMBER}\])?")


def figure_of(label):
    """Our name of a figure, by what llama-perplexity calls it."""
    if label in NAMES:
        return NAMES[label]
    place, symbol = label.split()
    return f"{ {'KLD': 'kld', 'Δp': 'dp'}[symbol] }_{PLACES[place]}"


def read_back(text):
    """The figures in a text, as `summarize` has them, and half a unit of their last place."""
    found, halves = {}, {}
    for line in text.splitlines():
        if not (match := LINE.fullmatch(line)):
            assert " windows, " in line or not line or line.startswith(("======", "The baseline"))
            continue
        label, value, plus_minus, percent, low, high = match.groups()
        factor = 100 if percent else 1
        keys = {"value": value, "plus_minus": plus_minus, "low": low, "high": high}
        name = figure_of(label)
        assert name not in found
        found[name] = {key: float(x) / factor for key, x in keys.items() if x is not None}
        halves[name] = 0.5000001 * 10 ** -len(value.partition(".")[2]) / factor
    return found, halves


def synthetic(seed=0, spread=0.1):
    """The figures of a made-up comparison of 12 windows of 20 positions."""
    rng, shape = np.random.default_rng(seed), (12, 20)
    base = rng.exponential(2, shape)
    return {
        "kld": rng.exponential(spread, shape),
        "nll_base": base,
        "nll": base + rng.normal(0.05, spread, shape),
        "dp": rng.normal(-0.01, spread / 3, shape).clip(-1, 1),
        "same_top": rng.random(shape) < 0.9,
    }


def result_of(figures, **provenance):
    sample = statistics.Sample(figures)
    return {
        "windows": sample.n_windows,
        "positions": sample.n_positions,
        "figures": statistics.summarize(sample),
        "provenance": provenance,
    }


@pytest.mark.parametrize("spread", [0.1, 1e-4, 3])
def test_every_figure_is_read_back(spread):
    result = result_of(synthetic(spread=spread))
    found, halves = read_back(printout.text(result))
    for name, printed in found.items():
        figure = result["figures"][name]
        assert printed.keys() == figure.keys()
        for key, value in printed.items():
            assert value == pytest.approx(figure[key], abs=halves[name], rel=0)


def test_nothing_that_llama_perplexity_prints_is_missing():
    found, _ = read_back(printout.text(result_of(synthetic())))
    kld = {place for place in PLACES.values() if place not in ("p75", "p25")}
    expected = {f"kld_{place}" for place in kld} | {f"dp_{place}" for place in PLACES.values()}
    assert found.keys() == expected | set(NAMES.values())


def test_a_comparison_of_models(ready, made, tmp_path):
    """Of real models, with the summary that is written as JSON."""
    path = ready / "Q4_0.gguf"
    info = gguf_files.model_info(made / "dense.gguf")
    own = comparison.Comparison(path, gguf_files.model_info(path), tmp_path / "c.h5")
    with Baseline(ready / "b.h5", made / "dense.gguf", info) as baseline:
        comparison.compare([own], baseline, Way(threads=2))
    result, _ = comparison.summarize(tmp_path / "c.h5")
    text = printout.text(result)
    assert text.startswith(f"{result['windows']} windows, {result['positions']} positions.")
    with WindowStore.open(tmp_path / "c.h5") as store:
        rows = {name: store.rows(name) for name in FIGURES}
    found, halves = read_back(text)
    assert found["kld_mean"]["value"] == pytest.approx(
        rows["kld"].mean(dtype=float), abs=halves["kld_mean"], rel=0
    )
    assert found["same_top"]["value"] == pytest.approx(
        rows["same_top"].mean(), abs=halves["same_top"], rel=0
    )


def test_headings_stand_in_the_order_of_llama_perplexity():
    text = printout.text(result_of(synthetic()))
    headings = re.findall("====== (.+) ======", text)
    assert headings[:3] == [
        "Perplexity statistics",
        "KL divergence statistics",
        "Token probability statistics",
    ]
    labels = [line.partition(":")[0].rstrip() for line in text.splitlines() if ":" in line]
    assert labels.index("Maximum KLD") < labels.index("99.9%   KLD") < labels.index("Minimum KLD")


def test_an_imported_baseline_is_mentioned():
    figures = synthetic()
    for clipped in (True, False):
        text = printout.text(result_of(figures, clipped=clipped))
        assert ("log-probabilities are clipped" in text) == clipped
    assert "clipped" not in printout.text(result_of(figures))
