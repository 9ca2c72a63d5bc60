"""Each study's table, held against numpy alone on comparisons that nobody measured."""

import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from conftest import command, fails_with
from quern import files
from quern.measure.statistics import RESAMPLES, SEED
from quern.studies.cells import Study
from quern.studies.datasets_table import spearman
from quern.studies.tables import TABLES, write

from .conftest import TOKENS, stream, write_cell

N_CTX = 64
WINDOWS = TOKENS // N_CTX
DRAWS = np.random.default_rng(SEED).multinomial(
    WINDOWS, np.full(WINDOWS, 1 / WINDOWS), size=RESAMPLES
)


def window_means(figures):
    """Mean KLD of each window's second half; all windows score as many positions."""
    return figures["kld"].reshape(WINDOWS, N_CTX)[:, N_CTX // 2 : -1].mean(1)


def interval(one, other, comparisons):
    """A relative difference of means, each [windows] (or [seeds, windows]), and its interval."""
    sides = [np.atleast_2d(side) for side in (one, other)]
    (a, b), drawn = (s.mean() for s in sides), [DRAWS @ s.mean(0) / WINDOWS for s in sides]
    parts = [(np.var(drawn[0] / drawn[1], ddof=1), WINDOWS - 1)]
    for side, scale in zip(sides, (1 / b, a / b**2), strict=True):
        if len(side) > 1:
            variance = np.var(side.mean(1), ddof=1) / len(side) * scale**2
            parts.append((variance, len(side) - 1))
    total = sum(v for v, _ in parts)
    freedom = total**2 / sum(v**2 / df for v, df in parts)
    half = stats.t.ppf(1 - 0.05 / comparisons / 2, freedom) * math.sqrt(total)
    return a / b - 1, a / b - 1 - half, a / b - 1 + half


@pytest.fixture
def studied(tmp_path, info):
    """A function that makes a study of some cells: labels, and a seed and scale of figures."""

    def make(settings, cells, texts=None, **options):
        entries = [
            write_cell(tmp_path, f"r{i}", labels, stream(*figures), **(options | own))
            for i, (labels, figures, own) in enumerate(cells)
        ]
        plan = {"settings": settings, "cells": entries, "texts": texts or {}}
        files.write_json(tmp_path / "one.json", {"tokens": 512, "beyond_training": "Too long."})
        return Study.read(plan, [tmp_path / "one.json"], info, "A study")

    return make


def columns(frame, name, key):
    row = frame.loc[key]
    return row[name], row[f"{name}_low"], row[f"{name}_high"]


def test_orders_are_means_over_seeds_against_the_documents(studied):
    orders = {"documents": [(1, 1)], "shuffled": [(s, 1.3) for s in (2, 3, 4)]}
    orders["windows"] = [(s, 1.001) for s in (5, 6, 7)]
    cells = [
        ({"type": "Q4_K", "order": order, "seed": seed}, figures, {})
        for order, some in orders.items()
        for seed, figures in enumerate(some)
    ]
    page = TABLES["order"](studied({"kind": "order", "types": ["Q4_K"]}, cells))
    frame = page.frame[page.frame.seed == "all"].set_index("order")
    means = {o: np.array([window_means(stream(*f)) for f in some]) for o, some in orders.items()}
    for order in ("shuffled", "windows"):
        assert frame.value[order] == pytest.approx(means[order].mean())
        assert frame.spread[order] == pytest.approx(np.std(means[order].mean(1), ddof=1))
        expected = interval(means[order], means["documents"], comparisons=2)
        assert columns(frame, "more_than_documents", order) == pytest.approx(expected)
    assert frame.more_than_documents_verdict["shuffled"] == "worse"
    assert "worse: shuffled (+" in page.finding
    assert "not told apart: windows" in page.finding
    assert len(page.frame[page.frame.seed != "all"]) == 7


def test_parts_of_a_pool_against_all_of_it_and_against_chance(studied):
    cells = [
        ({"type": "Q4_K", "which": "none"}, (1, 1.5), {}),
        ({"type": "Q4_K", "which": "full", "windows": 16}, (2, 1), {}),
        ({"type": "Q4_K", "which": "highest", "windows": 8, "seed": 0}, (3, 1), {}),
        ({"type": "Q4_K", "which": "random", "windows": 8, "seed": 0}, (4, 1), {}),
        ({"type": "Q4_K", "which": "random", "windows": 8, "seed": 1}, (5, 1), {}),
        ({"type": "Q4_K", "which": "lowest", "windows": 8, "seed": 0}, (6, 1.2), {}),
    ]
    settings = {"kind": "subsampling", "types": ["Q4_K"], "ladder": [8], "pool_windows": 16}
    page = TABLES["subsampling"](studied(settings | {"judge": "Q2_K"}, cells))
    frame = page.frame.set_index("which")
    of = [window_means(stream(*figures)) for _, figures, _ in cells]
    chance = np.array(of[3:5])
    m = 6  # none, highest, random and lowest against all; highest and lowest against chance
    for which, own in {"none": of[0], "highest": of[2], "random": chance, "lowest": of[5]}.items():
        expected = interval(own, of[1], m)
        assert columns(frame, "more_than_full", which) == pytest.approx(expected)
    for which, own in {"highest": of[2], "lowest": of[5]}.items():
        expected = interval(own, chance, m)
        assert columns(frame, "more_than_random", which) == pytest.approx(expected)
    assert frame.windows.to_dict()["none"] == 0
    assert f"1 - 0.05 / {m}" in page.tables
    assert "highest 8: " in page.finding


def test_data_sets_against_the_own_imatrix_and_none(studied, made):
    labels, corpora = ("a", "b", "random-words", "none"), ("a", "b")
    cells = [
        (
            {"type": "Q4_K", "calibration": label, "evaluation": corpus},
            (10 * i + j, 1 + (label == "none") / 2),
            {"text": corpus},
        )
        for i, corpus in enumerate(corpora)
        for j, label in enumerate(labels)
    ]
    texts = {
        label: {"tokens": str(made / "dense.h5"), "n_ctx": 64, "windows": n}
        for n, label in enumerate(labels[:3], 2)
    }
    settings = {"kind": "datasets", "types": ["Q4_K"], "corpora": list(corpora)}
    page = TABLES["datasets"](studied(settings, cells, texts))
    frame = page.frame.set_index(["evaluation", "calibration"])
    of = {(c["evaluation"], c["calibration"]): window_means(stream(*f)) for c, f, _ in cells}
    m = 2 * (3 + 3 - 1)
    for corpus, label in of:
        key = corpus, label
        if label != corpus:
            expected = interval(of[key], of[corpus, corpus], m)
            assert columns(frame, "more_than_own", key) == pytest.approx(expected)
        if label != "none":
            expected = interval(of[key], of[corpus, "none"], m)
            assert columns(frame, "more_than_none", key) == pytest.approx(expected)
    assert "better: a" in page.finding
    assert "cannot be told" in page.finding  # two corpora decide nothing
    assert "With fewer than five" in page.finding


def test_contexts_against_the_best_of_each_table(studied):
    contexts, base = [64, 128], 64
    scales = {(64, 64): 1.0, (128, 64): 1.02, (64, 128): 1.5, (128, 128): 0.5}
    cells = [
        (
            {"type": "Q4_K", "calibration": c, "evaluation": e},
            (i, scale),
            {"n_ctx": e, "scored": "all"},
        )
        for i, ((c, e), scale) in enumerate(scales.items())
    ]
    settings = {
        "kind": "context",
        "types": ["Q4_K"],
        "contexts": contexts,
        "base": base,
        "trained": None,
    }
    page = TABLES["context"](studied(settings, cells))
    frame = page.frame.set_index(["way", "figure", "context"]).sort_index()
    figures = {key: stream(i, scale)["kld"] for i, (key, scale) in enumerate(scales.items())}
    ways = {"calibration": [(64, 64), (128, 64)], "evaluation": [(64, 64), (64, 128)]}
    ways["both"] = [(64, 64), (128, 128)]
    levels = {"kld_median": 0.5, "kld_p90": 0.9, "kld_p95": 0.95}
    for way, keys in ways.items():
        longest = max(e for _, e in keys)
        ends = [t % 64 == 63 or t % longest == longest - 1 for t in range(TOKENS)]
        for figure, level in levels.items():
            values = [np.quantile(figures[key][~np.array(ends)], level) for key in keys]
            found = [frame.value[way, figure, n] for n in contexts]
            assert found == pytest.approx(values)
            best, other = np.argmin(values), np.argmax(values)
            difference = frame.more_than_best[way, figure]
            assert np.isnan(difference[contexts[best]])
            more = values[other] / values[best] - 1
            assert difference[contexts[other]] == pytest.approx(more)
    assert frame.units["evaluation", "kld_p90", 128] == TOKENS // 128
    assert frame.units["calibration", "kld_p90", 128] == TOKENS // 64
    assert frame.more_than_best_verdict["both", "kld_median", 64] == "worse"
    assert "lowest at 128; worse: 64 (+" in page.finding
    assert "1 - 0.05 / 3" in page.tables
    assert "so it is not tested here" in page.finding  # the model was trained on another size
    page = TABLES["context"](studied(settings | {"trained": 128}, cells))
    median = frame.value.unstack()[contexts].xs("kld_median", level="figure")
    less = median[128] / median[64] - 1
    for way in ways:
        assert f"128 against 64: {less[way]:+.2%} (" in page.finding


def test_rank_correlation_and_its_exact_p():
    x = np.arange(5.0)
    assert spearman(x, x**3) == pytest.approx((1, 2 / 120))
    rng = np.random.default_rng(0)
    y = rng.random(5)
    rho, p = spearman(x, y)
    assert rho == pytest.approx(stats.spearmanr(x, y).statistic)
    as_extreme = [
        abs(stats.spearmanr(x, order).statistic) >= abs(rho) - 1e-9
        for order in itertools.permutations(y)
    ]
    assert p == pytest.approx(np.mean(as_extreme))
    x, y = rng.random(12), rng.random(12)
    rho, p = spearman(x, y)
    assert rho == pytest.approx(stats.spearmanr(x, y).statistic)
    assert p == pytest.approx(stats.spearmanr(x, y).pvalue, abs=0.05)
    assert spearman(np.ones(4), np.arange(4.0)) == (0, 1)


def test_the_same_study_is_the_same_bytes_and_a_bad_one_a_sentence(studied, tmp_path, info):
    cells = [
        ({"type": "Q4_K", "order": order, "seed": seed}, (seed + 1, 1), {})
        for order in ("documents", "shuffled")
        for seed in range(1 if order == "documents" else 2)
    ]
    study = studied({"kind": "order", "types": ["Q4_K"]}, cells)
    written = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        paths = [tmp_path / name / file for file in ("i.md", "t.csv", "p.png")]
        write(study, markdown=paths[0], csv=paths[1], picture=paths[2])
        written.append([path.read_bytes() for path in paths])
    assert written[0] == written[1]
    assert written[0][0].startswith(b"# A study\n")
    assert b"Calibrated on 512 tokens (one).\n\n**Too long.**\n" in written[0][0]
    assert len(pd.read_csv(tmp_path / "one/t.csv")) == 5
    options = ["--info", info, "--title", "T", "--markdown", tmp_path / "x.md"]
    options += ["--csv", tmp_path / "x.csv", "--picture", tmp_path / "x.png"]
    fails_with(command("study", "--study", json.dumps({}), *options), "not the description")
