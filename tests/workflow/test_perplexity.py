"""Perplexity alone and tuning beside a sweep that has run."""

import json

from .conftest import require_watched
from .test_reruns import changed

PERPLEXITY = {"recipes": ["baseline", "Q2_K"], "stride": 24}


def test_they_are_made_and_make_nothing_else_stale(house):
    tuning = {"windows": 2, "repeats": 2}
    house.configure(changed(perplexity=PERPLEXITY, tuning=tuning))
    jobs = {"perplexity": 2, "perplexity_table": 1}
    targets = ("tuning", "perplexities")
    assert house.run(*targets) == jobs | {"tune": 1, "tuning": 1, "perplexities": 1}
    results = house.folder / "results/tiny"
    assert "| Q2_K" in (results / "perplexity/topics.md").read_text()
    found = json.loads((results / "tuning/64.json").read_text())
    assert found["settings"] == {"n_ctx": 64, "windows": 2, "repeats": 2, "threads": 2, "gpus": 0}
    assert house.would_run("all", *targets) == {}
    # A recipe more is measured, and no other again.
    more = PERPLEXITY | {"recipes": ["baseline", "Q2_K", "Q8_0"]}
    house.configure(changed(perplexity=more, tuning=tuning))
    assert house.would_run() == {"perplexity": 1, "perplexity_table": 1}
    require_watched(results)


def test_what_is_wrong_is_a_sentence(house):
    for section, words in (
        ({"recipes": ["Q9"]}, "perplexity.recipes.0: there is no 'Q9'"),
        ({"corpora": ["nothing"]}, "perplexity.corpora.0"),
        ({"stride": 64}, "windows of 64 tokens do not overlap then"),
    ):
        house.configure(changed(perplexity=section))
        result = house.snakemake("-n")
        assert result.returncode == 1
        assert words in result.stdout + result.stderr
        assert "Traceback" not in result.stdout + result.stderr
