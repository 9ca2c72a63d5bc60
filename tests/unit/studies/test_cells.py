"""Common tokens by brute force over the positions of the stream, and what cannot be compared."""

import math
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest

from quern import QuernError, files
from quern.measure.statistics import RESAMPLES, SEED
from quern.studies.cells import Calibrated, ComparedCell, Study, on_common_tokens

from .conftest import TOKENS, stream, write_cell


def compared(entry):
    result = files.read_json(entry["compare"])
    return ComparedCell(entry["recipe"], entry["labels"], result, Path(entry["positions"]))


def scored(t, n, which, missing):
    """Whether a position of the stream is scored in windows of n."""
    begin = 0 if which == "all" else n // 2
    return begin <= t % n < n - 1 and t // n not in missing and t // n < TOKENS // n


@pytest.mark.parametrize("which", ["all", "half"])
@pytest.mark.parametrize("missing", [{}, {64: [3], 256: [0]}])
def test_the_positions_compared_are_those_that_every_context_scores(tmp_path, which, missing):
    contexts, longest = (64, 128, 256), 256
    figures = {n: stream(n, scale=1 + 1 / n) for n in contexts}
    cells = [
        compared(
            write_cell(tmp_path, f"c{n}", {}, figures[n], n, which, missing=missing.get(n, ()))
        )
        for n in contexts
    ]
    # A block counts where no size lacks one of its windows.
    lost = {w * n // longest for n, windows in missing.items() for w in windows}
    common = [
        t
        for t in range(TOKENS)
        if all(scored(t, n, which, missing.get(n, ())) for n in contexts)
        and t // longest not in lost
    ]
    blocks = sorted({t // longest for t in common})
    found = on_common_tokens(cells)
    draws = np.random.default_rng(SEED).multinomial(
        len(blocks), np.full(len(blocks), 1 / len(blocks)), size=RESAMPLES
    )
    for n, measured in zip(contexts, found, strict=True):
        assert measured.units == len(blocks)
        values = figures[n]["kld"][common]
        assert measured.values["kld_mean"] == pytest.approx(values.mean())
        assert measured.values["kld_median"] == pytest.approx(np.median(values))
        assert measured.values["kld_p95"] == pytest.approx(np.quantile(values, 0.95))
        for draw in (0, 7):  # the same blocks are drawn for every context
            times = [draws[draw][blocks.index(t // longest)] for t in common]
            again = np.repeat(values, times)
            assert measured.drawn["kld_median"][draw] == pytest.approx(np.median(again))


def test_contexts_that_share_a_text_are_all_alike_where_they_said_the_same(tmp_path):
    figures = stream(1)
    cells = [compared(write_cell(tmp_path, f"c{n}", {}, figures, n, "all")) for n in (64, 128)]
    one, other = on_common_tokens(cells)
    assert one.values == other.values


def test_other_texts_or_too_few_blocks_are_a_sentence(tmp_path):
    one = compared(write_cell(tmp_path, "one", {}, stream(1)))
    other = compared(write_cell(tmp_path, "other", {}, stream(1), text="def"))
    with pytest.raises(QuernError, match="not compared on the same text"):
        on_common_tokens([one, other])
    uneven = compared(write_cell(tmp_path, "uneven", {}, stream(1), n_ctx=96))
    with pytest.raises(QuernError, match="in sizes that fit"):
        on_common_tokens([one, uneven])
    long = compared(write_cell(tmp_path, "long", {}, stream(1), n_ctx=1024))
    with pytest.raises(QuernError, match="fewer than two blocks of 1024"):
        on_common_tokens([one, long])


def test_entropy_counts_how_often_each_token_occurs(made):
    with h5py.File(made / "dense.h5") as h5:
        tokens = h5["tokens"][: 4 * 64].reshape(4, 64)[:, 1:]
    counts = Counter(tokens.ravel().tolist())
    total = sum(counts.values())
    expected = -sum(c / total * math.log2(c / total) for c in counts.values())
    assert Calibrated(made / "dense.h5", 64, 4).entropy == pytest.approx(expected)


def test_a_recipe_that_could_not_be_made_is_the_study_s_failure(tmp_path, info):
    entry = write_cell(tmp_path, "one", {}, stream(1))
    files.write_json(tmp_path / "one.json", {"failed": "llama.cpp refused it"})
    with pytest.raises(QuernError, match=r"one could not be made: llama\.cpp refused it"):
        Study.read({"settings": {}, "cells": [entry], "texts": {}}, [], info, "T")
    with pytest.raises(QuernError, match="not the description of a study"):
        Study.read({"settings": {}, "texts": {}}, [], info, "T")


@pytest.mark.parametrize("swapped", [("positions",), ("compare", "positions")])
def test_figures_of_another_recipe_are_refused(tmp_path, info, swapped):
    one, other = (write_cell(tmp_path, n, {}, stream(i)) for i, n in enumerate(("one", "other")))
    study = {"settings": {}, "cells": [one, other], "texts": {}}
    assert len(Study.read(study, [], info, "T").cells) == 2
    study["cells"][0] |= {key: other[key] for key in swapped}
    with pytest.raises(QuernError, match=r"one\.json is not of \S+other\.h5|another model or text"):
        Study.read(study, [], info, "T")
