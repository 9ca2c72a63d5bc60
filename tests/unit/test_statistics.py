"""Summaries against closed forms."""

import numpy as np
import pytest

from quern import statistics


def figures(kld):
    kld = np.asarray(kld, float)
    return {
        "kld": kld,
        "nll": np.full(kld.shape, np.log(8)),
        "nll_base": np.full(kld.shape, np.log(4)),
        "dp": np.full(kld.shape, -0.125),
        "same_top": (kld < 0.5).astype(np.uint8),
    }


def test_percentiles_of_a_ramp():
    found = statistics.describe(np.arange(1001) / 1000)
    for name, expected in {"mean": 0.5, "median": 0.5, "p99": 0.99, "p0.1": 0.001}.items():
        assert found[name] == pytest.approx(expected)
    assert found["std"] == pytest.approx(np.sqrt((1001**2 - 1) / 12) / 1000)


def test_summary_of_known_figures():
    found = statistics.summarize(figures([[0.0, 0.25], [0.5, 0.75]]))
    assert found["positions"] == 4
    assert found["ppl"] == pytest.approx(8)
    assert found["ppl_ratio"] == pytest.approx(2)
    assert found["same_top"] == 0.5
    assert found["dp"]["rms"] == pytest.approx(0.125)


def test_score_of_a_constant_is_ten_to_two_thirds_of_it():
    found = statistics.summarize(figures(np.full(100, 0.2)))
    assert found["score"] == pytest.approx(0.2 * 10 ** (2 / 3))


def test_per_window_rows_are_the_summaries_of_the_windows():
    both = figures([[0.1, 0.3], [0.5, 0.9]])
    table = statistics.per_window(both, np.array([3, 7]))
    assert table.window.tolist() == [3, 7]
    assert table.kld_mean.tolist() == pytest.approx([0.2, 0.7])
