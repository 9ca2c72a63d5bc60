"""The plan says what a dry run says, and sums up what the formulas say."""

import json
import math
import os
import re
import subprocess
import sys
from collections import Counter

from conftest import HOUSE
from quern import files
from quern.cost import plan, shape, stages

from .conftest import CONFIG

SWEEP = CONFIG | {
    "growth": {"types": ["Q2_K"], "first_tokens": 128},
    "quantize": [
        {"types": ["Q8_0"], "imatrix": ["none", "topics"]},
        {"types": ["Q4_0"], "rounding": ["ggml", "importance"], "keep": False},
    ],
}


def table(text):
    """Jobs, and jobs that are submitted, of each line of a plan by its name."""
    found = {}
    for line in text.splitlines()[1:]:
        name, *numbers = re.split(r" {2,}", line.strip())
        if len(numbers) == len(plan.HEADER) - 1:
            found[name] = int(numbers[0]), int(numbers[1])
    return found


def dry_run(house, *options):
    """Jobs of a dry run as the plan gets them."""
    result = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "--cores", "2", "--logger", "jobs", *options],
        cwd=house.folder,
        env=os.environ | {"PYTHONPATH": str(HOUSE / "plugins")},
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_finished_sweep_leaves_nothing(house):
    result = house.snakemake("plan")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "Nothing is left to be done.\n"


def test_a_plan_has_the_jobs_of_a_dry_run_and_says_how_long_an_imatrix_may_grow(house):
    house.configure(SWEEP)
    text = house.snakemake("plan").stdout
    counts = {name: n for name, (n, _) in table(text).items()}
    jobs = dry_run(house)
    assert counts == {**Counter(job["rule"] for job in jobs), "in all": len(jobs)}
    assert re.search(r"The imatrix of topics for tiny is counted .* at most \d+, together", text)


def test_jobs_ask_for_what_the_formulas_say_up_to_what_a_profile_allows(house):
    house.configure(SWEEP)
    caps = ("--resources", "mem_mb=3000", "runtime=5")
    jobs = dry_run(house, *caps)
    assert max(job["resources"].get("runtime", 0) for job in jobs) == 5
    assert max(job["resources"].get("mem_mb", 0) for job in jobs) == 3000
    of = shape.of_file(house.folder / "input/tiny.gguf")
    tokens = files.read_json(house.folder / "results/tiny/tokens/topics.evaluation.json")["tokens"]
    windows = stages.Decoded(min(6, tokens // 64), 64, 31)
    asked = {job["wildcards"].get("recipe"): job for job in jobs if job["rule"] == "compare"}
    job = asked["Q4_0"]
    cost = stages.compare(of, stages.quantized_bytes(of, "Q4_0"), windows)
    assert job["resources"]["seconds"] == math.ceil(cost.seconds(2))
    assert job["resources"]["mem_mb"] == cost.megabytes_asked()
    assert job["resources"]["disk_mb"] == math.ceil(cost.disk / 1e6)


def test_models_that_are_not_kept_are_removed_and_their_figures_stay(house):
    folder = house.folder / "results/tiny"
    house.configure(CONFIG | {"quantize": [CONFIG["quantize"][0] | {"keep": False}]})
    assert house.would_run() == {}
    house.configure(CONFIG | {"quantize": [*CONFIG["quantize"], SWEEP["quantize"][1]]})
    made = house.run(report=True)
    brief = {"quantize_briefly": 1, "reround_briefly": 1}
    assert made == brief | {"compare": 2, "summary": 1}
    for name in ("Q4_0", "Q4_0~importance"):
        assert not (folder / f"quantize/{name}.gguf").exists()
        assert (folder / f"quantize/{name}.json").exists()
        assert (folder / f"compare/{name}/topics.json").exists()
    assert (folder / "quantize/Q2_K.gguf").exists()
    assert house.would_run() == {}
    result = house.snakemake("-n", "release")
    assert result.returncode and "because of keep: false" in result.stdout + result.stderr
    lost = folder / "compare/Q4_0~importance/topics.json"
    lost.unlink()
    assert house.would_run(str(lost.relative_to(house.folder))) == brief | {"compare": 1}
