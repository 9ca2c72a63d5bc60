"""Speed, memory and types of the K/V cache beside a sweep that has run."""

import json

from .conftest import require_watched
from .test_reruns import CONFIG, changed

SPEED = {"prompt": 32, "generation": 2, "repeats": 2}
KV = {"types": ["f16", "q4_0"], "n_ctx": 128, "windows": 2, "recipes": ["Q8_0"]}
RECIPES = ("Q8_0", "Q8_0+topics", "Q2_K", "Q2_K+topics")


def test_they_are_made_and_make_nothing_else_stale(house):
    house.configure(changed(speed=SPEED, evaluation__kv=KV, report={"contexts": [256]}))
    jobs = {"speed": 1, "baseline": 1, "compare": 2, "kv_table": 1}
    assert house.run("all", "memories", report=True) == jobs | {"memories": 1}
    results = house.folder / "results/tiny"
    speed = json.loads((results / "speed.json").read_text())
    assert {entry["recipe"] for entry in speed["results"]} == set(RECIPES)
    assert speed["settings"]["threads"] == 2  # all cores of the run
    assert "q4_0" in (results / "kv/topics.md").read_text()
    memory = json.loads((results / "memory/Q2_K+topics.json").read_text())
    assert [(e["n_ctx"], e["kv_type"]) for e in memory["contexts"]] == [(256, "f16")]
    assert house.would_run("all", "memories", report=True) == {}
    # One more recipe: all are timed again, since they are timed in turns, and nothing else.
    more = [*CONFIG["quantize"], {"types": ["Q4_0"]}]
    house.configure(changed(speed=SPEED, evaluation__kv=KV, quantize=more))
    assert house.would_run() == {"quantize": 1, "compare": 1, "summary": 1, "speed": 1}
    house.configure(changed(speed=SPEED, evaluation__kv=KV | {"types": ["f16", "q4_0", "q8_0"]}))
    assert house.would_run() == {"compare": 1, "kv_table": 1}
    require_watched(results)


def test_what_is_wrong_is_a_sentence(house):
    house.configure(changed(evaluation__kv_type="q8_0", evaluation__flash="none"))
    assert "evaluation.flash: a cache of q8_0 needs flash attention" in house.snakemake("-n").stdout
    for kv, words in (
        (KV | {"recipes": ["Q9"]}, "evaluation.kv.recipes.0: there is no 'Q9'"),
        (KV | {"types": ["q8_0"], "flash": ["none"]}, "needs flash attention"),
        (KV | {"types": ["q9_0"]}, "evaluation.kv.types.0"),
    ):
        house.configure(changed(evaluation__kv=kv))
        result = house.snakemake("-n")
        assert result.returncode == 1
        assert words in result.stdout + result.stderr
        assert "Traceback" not in result.stdout + result.stderr
