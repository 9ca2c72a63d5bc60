"""A sweep on a real Slurm: jobs that are cancelled, over their time, or bereft of Snakemake."""

import contextlib
import copy
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from threading import Thread

import pytest

from models import write_model
from quern.content import LARGE
from workflow.conftest import CONFIG, build

from .conftest import said, until

PROFILE = ("--workflow-profile", "profiles/slurm", "--cores", "2", "--latency-wait", "10")
# Snakemake, but that it asks for states of jobs each second. The pause of the plugin, which grows
# by ten seconds each time, is longer than these jobs.
EAGER = """
from snakemake_executor_plugin_slurm import Executor
from snakemake.cli import main
Executor.next_seconds_between_status_checks = property(lambda self: 1, lambda self, value: None)
main()
"""
PART = ("--omit-from", "memory")  # what follows from the summaries takes time
# What is done once for each model and corpus, each step of growth, the mix, and each recipe.
ONCE = {"corpus": 1, "model": 1, "tokens": 2, "baseline": 1}
STEPS = {"imatrix_shard": 2, "imatrix": 2, "growth_step": 2, "grow": 1, "imatrix_of_corpus": 1}
LEVELS = {"growth_quantize": 3, "growth_compare": 3}
MIX = {"damage": 2, "mix_errors": 1, "mix": 1, "mix_picture": 1, "imatrix_statistics": 1}
RECIPES = {"quantize": 2, "reround": 1, "compare": 2, "summary": 1}
EVERYTHING = Counter(ONCE | STEPS | LEVELS | MIX | RECIPES)
CHANGED = copy.deepcopy(CONFIG["corpora"])
CHANGED["topics"]["evaluation_characters"] = 5000
HERE = {"imatrix", "growth_step", "grow", "imatrix_of_corpus", "mix_picture", "summary"}
HERE |= {"imatrix_statistics"}


def configuration():
    config = copy.deepcopy(CONFIG)
    config["imatrix"] = {"n_ctx": 64}
    config["growth"] = {"types": ["Q2_K"], "first_tokens": 64, "largest_tokens": 128}
    config["growth"] |= {"factor": 2, "min_gain": 0.0, "patience": 9}
    config["mixes"] = {"windows": 2, "proof_windows": 4}
    config["quantize"] = [
        {"types": ["Q4_0"], "imatrix": ["topics"], "rounding": ["exact"]},
        {"mix": {"size": ["as Q2_K"]}, "imatrix": ["topics"]},
    ]
    return config


def jobs_of(text: str) -> Counter:
    """How many jobs of each rule Snakemake began, groups' jobs one by one."""
    found = re.findall(r"^(?:    )?(?:local)?(?:rule|checkpoint) (\w+):$", text, re.M)
    return Counter(name for name in found if name != "all")


def queue(rule: str, states: str = "RUNNING") -> list[str]:
    """Slurm's numbers of the jobs that a rule has a part in."""
    rows = said("squeue", "--me", "--noheader", f"--states={states}", "--format=%i|%k")
    return [number for number, name in (row.split("|") for row in rows.split()) if rule in name]


def processes(script: str, folder: Path) -> list[int]:
    """Processes in a folder that run a script."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (path / "cmdline").read_bytes().split(b"\0")
            named = any(word.decode().endswith(f"scripts/{script}.py") for word in words)
            if named and words[0].endswith(b"python") and (path / "cwd").resolve() == folder:
                found.append(int(path.name))
    return found


class Run:
    """Snakemake at work in a folder, beside the test."""

    def __init__(self, folder: Path, *options: str):
        self._log = Path(tempfile.mkstemp(dir=folder, suffix=".log")[1])
        with self._log.open("w") as file:
            command = [sys.executable, "-c", EAGER, *PROFILE, *PART, *options]
            self.process = subprocess.Popen(command, cwd=folder, stdout=file, stderr=file)

    @property
    def text(self) -> str:
        return self._log.read_text()

    def end(self) -> str:
        """What it said until its end."""
        self.wait_for(lambda: False, "its end")
        return self.text

    def wait_for(self, found, what: str):
        """Wait until something is found, as long as Snakemake is at work; it ends with the test."""
        try:
            return until(lambda: found() or self.process.poll() is not None, 1500, what) and found()
        except BaseException:
            self.process.kill()
            raise


def house_at(folder: Path, texts):
    house = build(folder)
    (folder / "input").mkdir()
    write_model(folder / "input/tiny.gguf")
    (folder / "input/text.txt").write_text("\n%%\n".join(texts[:30]))
    house.configure(configuration())
    return house


class Alone(Thread):
    """The same sweep on this machine, begun once the other one's jobs go their way."""

    def __init__(self, folder: Path, texts):
        super().__init__()
        self.house, self.jobs = house_at(folder, texts), None

    def run(self):
        self.jobs = self.house.run()


@pytest.fixture(scope="module")
def alone(tmp_path_factory, texts):
    return Alone(tmp_path_factory.mktemp("alone") / "house", texts)


@pytest.fixture(scope="module")
def swept(cluster, alone, tmp_path_factory, texts):
    """A sweep on the cluster, disturbed: the house, and what Snakemake said each time."""
    folder = tmp_path_factory.mktemp("slurm") / "house"
    house = house_at(folder, texts)
    house.said = {}

    # Snakemake is killed while its first jobs are at work, and started again: too early, then
    # before somebody says what these jobs made, then to the end.
    run = Run(folder)
    run.wait_for(lambda: queue("rule_corpus") and queue("rule_model"), "the first jobs")
    run.process.kill()
    house.said["killed"] = run.end()
    left = ",".join([*queue("rule_corpus"), *queue("rule_model")])
    said("scontrol", "suspend", left)  # so that they do not end before
    house.snakemake("--unlock")
    house.said["early"] = Run(folder).end()
    said("scontrol", "resume", left)
    until(lambda: not said("squeue", "--me", "--noheader").strip(), 100, "the end of these jobs")
    house.said["bare"] = Run(folder).end()
    touch = re.search(r"keep them by `snakemake (.+?)`", house.said["bare"])[1]
    house.said["touched"] = house.snakemake(*shlex.split(touch)).stderr
    run = Run(folder)
    alone.start()

    # One job is cancelled. Another stands still until its time is over.
    run.wait_for(lambda: queue("rule_recipe_"), "a recipe")
    (recipe,) = queue("rule_recipe_")
    said("scontrol", "update", f"jobid={recipe}", "timelimit=1")
    run.wait_for(lambda: processes("quantize", folder), "its command")
    for process in processes("quantize", folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGSTOP)
    run.wait_for(lambda: queue("rule_damage"), "a window of damage")
    said("scancel", queue("rule_damage")[0])
    house.said["resumed"] = run.end()
    house.code = run.process.returncode
    return house


def test_the_sweep_ends_well(swept):
    assert swept.code == 0, swept.said["resumed"]
    again = swept.snakemake("-n", *PART)
    assert "Nothing to be done" in again.stdout + again.stderr
    fine = swept.snakemake("-n", *PROFILE, *PART)
    assert "Nothing to be done" in fine.stdout + fine.stderr


def test_nothing_runs_beside_the_jobs_of_a_killed_run(swept):
    text = swept.said["early"]
    assert "jobs of an earlier run are still at work in this folder" in text
    assert "scancel" in text and not jobs_of(text)


def test_results_without_a_record_are_not_taken_for_granted(swept):
    """They would hide a change of settings, since only Snakemake itself writes such records."""
    text = swept.said["bare"]
    assert "carry no record of what they were made from" in text and not jobs_of(text)
    assert "results/tiny/model.json" in text and "results/corpora/topics/pool.txt" in text
    swept.configure(configuration() | {"corpora": CHANGED})
    assert jobs_of(swept.snakemake("-n", *PART).stdout)["corpus"] == 1
    swept.configure(configuration())


def test_what_is_finished_is_not_computed_again(swept):
    """Neither what the jobs of a killed run made, nor what others made beside a job that failed."""
    text = swept.said["resumed"]
    assert jobs_of(swept.said["killed"]) == {"corpus": 1, "model": 1}
    began = jobs_of(swept.said["killed"]) + jobs_of(text)
    again = began - EVERYTHING
    assert not EVERYTHING - began
    assert again == {"damage": 1, "quantize": 1, "reround": 1, "compare": 1}
    assert "'CANCELLED'" in text and "DUE TO TIME LIMIT" in text


def test_short_jobs_run_where_snakemake_runs(swept):
    text = swept.said["resumed"]
    local = set(re.findall(r"^local(?:rule|checkpoint) (\w+):$", text, re.M)) - {"all"}
    assert local == HERE
    submissions = len(re.findall(r"has been submitted with SLURM jobid", text))
    # tokens, baseline, shards, levels, damage, errors, mix, recipes; two jobs were sent again.
    assert submissions == 2 + 1 + 2 + 3 + 2 + 1 + 1 + 2 + 2


def contents(folder: Path) -> dict[str, bytes]:
    """Results by name, without what says how long they took."""
    timed = ("logs/", "benchmarks/")
    names = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: path.read_bytes()
        for name, path in names.items()
        if not name.startswith((*timed, "."))
    }


def test_results_equal_those_of_one_machine(swept, alone):
    alone.join(400)
    assert alone.jobs == EVERYTHING
    here, there = (contents(house.folder / "results") for house in (alone.house, swept))
    assert here.keys() == there.keys()
    assert [name for name in here if here[name] != there[name]] == []


def test_two_gpus_are_for_one_command(swept):
    """This llama.cpp has no use for them, and says so once."""
    recipe = "results/tiny/memory/Q4_0~exact+topics.json"
    options = ("--set-resources", "memory:gpu=2", "--retries", "0", "--omit-from", "page", "--")
    text = Run(swept.folder, *options, recipe).end()
    (number,) = re.findall(r"submitted with SLURM jobid (\d+)", text)
    job = said("scontrol", "show", "job", number)
    assert re.search(r"TresPerJob=gres.gpu.2", job) and "NumTasks=1" in job, job
    log = (swept.folder / "results/logs/tiny/memory/Q4_0~exact+topics.log").read_text()
    assert log.count("quern ERROR") == 1, log


@contextlib.contextmanager
def large(path: Path):
    """A file with more than a gigabyte of nothing behind it."""
    before, content = path.stat(), path.read_bytes()
    os.truncate(path, LARGE + 1)
    try:
        yield
    finally:
        path.write_bytes(content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_models_are_hashed_in_a_job(swept):
    cache = swept.folder / "results/.content.json"
    before = json.loads(cache.read_text())["input/tiny.gguf"]
    cache.unlink()
    text = Run(swept.folder, "--", "hashed").end()
    assert jobs_of(text) == {"hashed": 1}, text
    assert json.loads(cache.read_text())["input/tiny.gguf"] == before


def test_a_cluster_that_cannot_serve_is_refused_at_once(swept):
    target = "results/tiny/memory/Q4_0~exact+topics.json"
    result = swept.snakemake("--executor", "slurm", "--jobs", "2", target)
    assert "give --slurm-status-command squeue" in result.stdout + result.stderr
    model = swept.folder / "input/tiny.gguf"
    with large(model):
        result = swept.snakemake(*PROFILE, target)
        assert "`snakemake hashed`, with the same options" in result.stdout + result.stderr
    result = swept.snakemake(*PROFILE, "--cores", "5", target)
    assert "no node of this cluster has 5 cores; the largest has 4" in result.stdout + result.stderr
