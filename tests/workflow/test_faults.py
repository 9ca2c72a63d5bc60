"""What goes wrong around a sweep ends in a sentence, and never in another sweep's results."""

import csv
import os
import re
import shutil

import pytest
import yaml

from conftest import command, fails_with
from quern import QuernError, files
from quern.checks import whole

from .conftest import require_watched
from .test_reruns import changed

HOSTILE = "$(touch pwned1)`touch pwned2`; touch pwned3 & 'quo\"te -x"


def test_a_mistyped_path_beside_old_results_is_refused(house):
    house.configure(changed(models__tiny="input/tinny.gguf"))
    result = house.snakemake("-n")
    assert result.returncode == 1
    said = result.stdout + result.stderr
    assert re.search(r"line \d+: models\.tiny: input/tinny\.gguf does not exist", said)


def test_what_cannot_work_is_refused_before_anything_runs(house):
    house.configure(changed(quantize__0__types=["IQ2_S"]))
    assert "IQ2_S only with an imatrix" in house.snakemake("-n").stdout
    house.configure(changed(quantize__0__types=["q2_k"]))
    assert "there is no 'q2_k'; did you mean Q2_K?" in house.snakemake("-n").stdout
    mix = {"size": "4 bpw", "fixed": {"attn_q": "Q8_0", "no_such": "Q8_0"}}
    house.configure(changed(quantize=[{"mix": mix}]))
    said = house.snakemake("-n").stdout
    assert re.search(r"line \d+: quantize\.0\.mix\.fixed: no_such matches no tensor", said)
    compensated = {"types": ["Q4_0"], "rounding": ["compensated"]}
    house.configure(changed(quantize=[compensated], moments={"memory": "1B"}))
    said = house.snakemake("-n").stdout
    assert re.search(r"line \d+: moments\.memory: \d+ jobs .* of tiny; give at least \d+ B", said)


def commands_of(result):
    assert result.returncode == 0, result.stderr
    return sorted(re.findall(r"python scripts/\S+\.py .*", result.stdout + result.stderr))


def test_a_users_configuration_is_the_only_one_that_is_read(house, tmp_path):
    """Snakemake tells the jobs of a cluster of --configfile, and not that it replaces."""
    config = changed(evaluation__n_ctx=32, imatrix__n_ctx=32)
    del config["evaluation"]["windows"]  # the house's own configuration has 6
    (house.folder / "mine.yaml").write_text(yaml.safe_dump(config))
    said = [
        commands_of(house.snakemake("-n", "-p", "-F", "--configfile", "mine.yaml", *more))
        for more in ([], ["--replace-workflow-config"])
    ]
    assert said[0] == said[1]
    (baseline,) = (line for line in said[0] if "baseline.py" in line)
    assert "--n-ctx=32" in baseline and "--windows" not in baseline


def test_a_job_refuses_another_configuration_than_its_run(house, monkeypatch):
    monkeypatch.setenv("QUERN_CONFIGURATION", "another")
    result = house.snakemake("-n", "--mode", "remote")
    assert result.returncode == 1
    assert "another configuration than the run that sent it" in result.stdout + result.stderr


def test_a_recipe_that_fails_is_a_row_with_its_reason(house):
    sweep = {"types": ["Q8_0"], "variant": "small", "imatrix": ["topics"]}
    config = changed()
    config["quantize"].append(sweep | {"token_embedding_type": "IQ2_XXS"})
    house.configure(config)
    assert house.run() == {"quantize": 1, "compare": 1, "summary": 1}
    summary = house.folder / "results/tiny/summary/topics.csv"
    rows = {row["recipe"]: row for row in csv.DictReader(summary.read_text().splitlines())}
    assert "cannot become IQ2_XXS" in rows["Q8_0.small+topics"]["failed"]
    assert not rows["Q8_0"]["failed"] and float(rows["Q8_0"]["kld_mean"]) > 0
    text = summary.with_suffix(".md").read_text()
    assert "**`Q8_0.small+topics` failed**: token_embd.weight cannot become IQ2_XXS" in text
    assert house.would_run() == {}


def test_names_and_values_are_never_commands(house):
    """Every free text of the configuration that reaches a shell, run for real."""
    folder = house.folder / "input"
    names = {kind: f"{HOSTILE}.{kind}" for kind in ("txt", "gguf", "imatrix")}
    (folder / names["txt"]).write_text((folder / "text.txt").read_text())
    shutil.copy(folder / "tiny.gguf", folder / names["gguf"])
    shutil.copy(house.folder / "results/tiny/imatrix/topics.gguf", folder / names["imatrix"])
    config = changed()
    config["models"] = {"hostile": f"input/{names['gguf']}"}
    source = {"name": "topics", "separator": f"\n%%\n{HOSTILE}", "field": HOSTILE, "kind": "text"}
    other = {"name": "other", "path": f"input/{names['txt']}", "separator": "\n%%\n"}
    config["corpora"]["topics"]["sources"] = [source | {"path": "input/text.txt"}, other]
    config["imatrix"]["files"] = {"theirs": f"input/{names['imatrix']}"}
    config["quantize"] = [
        {"types": ["Q8_0"], "imatrix": ["theirs"], "tensor_types": {f"({HOSTILE})|ffn": "Q6_K"}}
    ]
    house.configure(config)
    result = house.snakemake()
    assert not [name for name in os.listdir(house.folder) if name.startswith("pwned")]
    assert result.returncode == 0, result.stderr
    assert (house.folder / "results/hostile/summary/topics.md").is_file()


def cut(path):
    os.truncate(path, path.stat().st_size * 2 // 3)


def test_check_names_the_files_that_were_changed(house):
    results = house.folder / "results"
    result = command("check", results)
    assert result.returncode == 0, result.stderr
    paths = list(whole.found([results]))
    assert result.stdout == f"{len(paths)} files are whole.\n"
    kinds = {".h5", ".gguf", ".json", ".csv", ".md", ".txt", ".png", ".html"}
    assert require_watched(results) == kinds
    for path in paths:
        before = path.read_bytes()
        cut(path)
        with pytest.raises(QuernError, match=re.escape(path.name)):
            whole.check(path)
        path.write_bytes(before)
    for name in ("tiny/quantize/Q8_0.gguf", "tiny/baseline/topics.h5", "corpora/topics/pool.txt"):
        with open(results / name, "r+b") as file:
            file.seek(-9, os.SEEK_END)
            file.write(b"something")
    result = command("check", results)
    fails_with(result, f"3 of {len(paths)} files are damaged")
    said = result.stdout + result.stderr
    assert all(name in said for name in ("Q8_0.gguf is not what", "topics.h5", "pool.txt"))


def test_check_says_what_has_no_hash(house):
    files.sum_path(house.folder / "results/tiny/summary/topics.csv").unlink()
    result = command("check", house.folder / "results")
    assert result.returncode == 0, result.stderr
    assert re.search(r"1 have no hash of their own, such as \S+/summary/topics.csv", result.stdout)


def test_check_refuses_what_it_does_not_know(tmp_path):
    fails_with(command("check", tmp_path / "gone"), "gone does not exist")
    (tmp_path / "x.log").write_bytes(b"")
    fails_with(command("check", tmp_path / "x.log"), "x.log cannot be checked", ".gguf")
    assert "0 files" in command("check", tmp_path).stdout
