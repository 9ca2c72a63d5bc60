"""Only stale targets run again, and all of them."""

import copy
import json
import os
import re
import time

import gguf
import pytest

from conftest import HOUSE

from .conftest import CONFIG, FOLLOWING, build

EVERYTHING = {
    "model": 1,
    "corpus": 1,
    "tokens": 2,
    "baseline": 1,
    "imatrix_shard": 1,
    "imatrix": 1,
    "imatrix_of_corpus": 1,
    "imatrix_statistics": 1,
    "quantize": 4,
    "compare": 4,
    "summary": 1,
}
# A text decides nothing about the models that are quantized without an imatrix.
FROM_CORPUS = {k: v for k, v in EVERYTHING.items() if k != "model"} | {"quantize": 2}
TARGETS = (
    "models:",
    "samples:",
    "baselines:",
    "imatrices:",
    "mixes:",
    "quantized:",
    "roundings:",
    "memories:",
    "perplexities:",
    "studies:",
    "tuning:",
    "release:",
    "plan:",
    "hashed:",  # its cache is no output
)
IMATRIX = {"imatrix_shard": 1, "imatrix": 1, "imatrix_of_corpus": 1, "imatrix_statistics": 1}
FROM_BASELINE = {"baseline": 1, "compare": 4, "summary": 1}


def changed(**paths):
    """The configuration with values changed; `a__b` names a nested key."""
    config = copy.deepcopy(CONFIG)
    for path, value in paths.items():
        *keys, last = path.split("__")
        target = config
        for key in keys:
            target = target[int(key) if key.isdigit() else key]
        target[last] = value
    return config


def test_the_first_run_does_everything_once(finished):
    assert finished.first_jobs == EVERYTHING


def test_a_second_run_has_nothing_to_do(house):
    result = house.snakemake()
    assert "Nothing to be done" in result.stderr + result.stdout


def test_the_same_results_in_a_moved_folder(house):
    """The copy is a move: nothing is stale."""
    assert house.would_run() == {}


def test_a_whole_pool_is_collected_in_parts(house):
    house.configure(changed(imatrix__windows=None))
    assert house.would_run()["imatrix_shard"] == 16
    target = "results/tiny/imatrix/topics.gguf"
    assert house.run(target) == {"imatrix_shard": 16, "imatrix": 1, "imatrix_of_corpus": 1}
    reader = gguf.GGUFReader(house.folder / target)
    tokens = json.loads((house.folder / "results/tiny/tokens/topics.pool.json").read_text())
    windows = tokens["tokens"] // CONFIG["imatrix"]["n_ctx"]
    assert reader.fields["imatrix.chunk_count"].contents() == windows > 16
    assert house.would_run(target) == {}
    (house.folder / "results/tiny/imatrix/topics/shards/3of16.h5").unlink()
    assert house.would_run(target) == {}  # nobody asks for it again
    (house.folder / "results/tiny/imatrix/topics/all.gguf").unlink()
    assert house.would_run("results/tiny/imatrix/topics/all.gguf")["imatrix_shard"] == 1


def test_a_short_pool_is_collected_in_few_parts(house):
    text = house.folder / "input/text.txt"
    text.write_text(text.read_text()[:9000])
    house.configure(changed(imatrix__windows=None))
    assert house.would_run()["imatrix_shard"] == 9000 // (16 * CONFIG["imatrix"]["n_ctx"])


@pytest.mark.parametrize(
    ("config", "jobs"),
    [
        (changed(quantize=[CONFIG["quantize"][0] | {"types": ["Q8_0", "Q2_K", "Q4_0"]}]),
         {"quantize": 2, "compare": 2, "summary": 1}),
        (changed(quantize=[CONFIG["quantize"][0] | {"types": ["Q8_0"]}]), {"summary": 1}),
        (changed(evaluation__n_ctx=128), FROM_BASELINE),
        (changed(evaluation__windows=4), FROM_BASELINE),
        (changed(evaluation__scored="all"), FROM_BASELINE),
        (changed(evaluation__store="logits"), FROM_BASELINE),
        (changed(evaluation__until={"within": 0.1}), {"compare": 4, "summary": 1}),
        (changed(imatrix__windows=3),
         IMATRIX | {"quantize": 2, "compare": 2, "summary": 1}),
        (changed(quantize=[CONFIG["quantize"][0] | {"output_type": "Q6_K"}]),
         {"quantize": 4, "compare": 4, "summary": 1}),
        (changed(corpora__topics__seed=5), FROM_CORPUS),
    ],
)  # fmt: skip
def test_a_changed_setting(house, config, jobs):
    house.configure(config)
    assert house.would_run() == jobs


def test_a_changed_text(house):
    text = house.folder / "input/text.txt"
    text.write_text(text.read_text() + "\n%%\nOne more document.")
    assert house.would_run() == FROM_CORPUS


def test_another_name_of_a_source_makes_nothing_stale(house):
    """It is a label; tables show it once they are made again."""
    (entry,) = CONFIG["corpora"]["topics"]["sources"]
    house.configure(changed(corpora__topics__sources=[entry | {"name": "subjects"}]))
    assert house.would_run() == {}
    (house.folder / "results/corpora/topics/corpus.md").unlink()
    assert house.run("results/corpora/topics/corpus.md") == {"corpus": 1}
    assert "| subjects |" in (house.folder / "results/corpora/topics/corpus.md").read_text()


def test_a_changed_model_even_with_an_old_time(house):
    model = house.folder / "input/tiny.gguf"
    times = model.stat().st_atime, model.stat().st_mtime - 1000
    reader = gguf.GGUFReader(model, "r+")
    reader.tensors[0].data[0, 1] += 1
    reader.data.flush()
    os.utime(model, times)
    assert house.would_run() == {k: v for k, v in EVERYTHING.items() if k != "corpus"}


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("module", "jobs"),
    [
        ("measure/statistics", {"compare": 4, "summary": 1}),
        ("measure/printout", {"compare": 4, "summary": 1}),
        ("report/plots", {"summary": 1, "imatrix_statistics": 1}),
        ("quantize/quantization", {"quantize": 4, "compare": 4, "summary": 1}),
        ("corpus/build", FROM_CORPUS),
    ],
)
def test_changed_code_in_the_library(house, module, jobs):
    path = house.folder / f"scripts/quern/{module}.py"
    path.write_text(path.read_text() + "\n\nADDED = 1\n")
    assert house.would_run() == jobs


def test_words_about_the_code_do_not_count(house):
    for path in (house.folder / "scripts").rglob("*.py"):
        path.write_text("# A comment.\n" + path.read_text())
    assert house.would_run() == {}


def test_touching_files_and_editing_the_readme_run_nothing(house):
    (house.folder / "README.md").write_text("Other words.")
    later = time.time() + 10
    for path in house.folder.rglob("*"):
        if path.is_file() and ".snakemake" not in path.parts:
            os.utime(path, (later, later))
    assert house.would_run() == {}


def test_a_deleted_result_is_made_again_and_no_other(house):
    (house.folder / "results/tiny/summary/topics.png").unlink()
    assert house.would_run() == {"summary": 1}


def comparisons(house):
    """The files of all comparisons, by their paths."""
    folder = house.folder / "results/tiny/compare"
    return {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}


def test_a_recipe_is_compared_anew_by_itself(house):
    files = comparisons(house).items()
    before = {name: path.stat().st_mtime_ns for name, path in files if name.parts[0] != "Q2_K"}
    target = "results/tiny/compare/Q2_K/topics.json"
    (house.folder / target).unlink()
    assert house.run(target) == {"compare": 1}
    assert (
        before.items() <= {n: p.stat().st_mtime_ns for n, p in comparisons(house).items()}.items()
    )


def test_results_carry_their_origin(house):
    for file in ("baseline/topics.json", "compare/Q2_K+topics/topics.json"):
        text = (house.folder / "results/tiny" / file).read_text()
        for key in ("sha256", "n_ctx", "computed_by"):
            assert key in text


def test_every_rule_is_documented_and_tagged():
    for path in (HOUSE / "rules").glob("*.smk"):
        text = path.read_text()
        assert "lambda" not in text
        for rule in re.split(r"^(?:rule|checkpoint) ", text, flags=re.M)[1:]:
            parts = ['"""', "input:"]
            if not rule.startswith(TARGETS):
                parts += ["output:", "log:", "benchmark:", "threads:", "resources:"]
                parts += ["conda:", "shell:"]
                resources = r"\*\*(asked\(|LIGHT|TABLE)|mem_mb=.*\s+runtime="
                assert re.search(resources, rule), f"{path.name}: {rule.split(':')[0]}"
            for part in parts:
                assert part in rule, f"{path.name}: {rule.split(':')[0]} lacks {part}"


def test_a_wrong_key_is_refused_with_its_line(house):
    house.configure(changed(evaluation__n_ctxx=64))
    result = house.snakemake("-n")
    assert result.returncode == 1
    assert re.search(r"config\.yaml, line \d+: evaluation\.n_ctxx: unknown key", result.stdout)


def test_as_a_module_from_another_folder(house, tmp_path):
    build(tmp_path / "quern")
    (house.folder / "Snakefile").write_text(
        'configfile: "config/config.yaml"\n'
        "module quern:\n"
        f'    snakefile: "{tmp_path}/quern/Snakefile"\n'
        "    config: config\n"
        "use rule * from quern as quern_*\n"
    )
    (house.folder / "results").rename(house.folder / "before")
    found = house.run("quern_all", "-n", report=True)
    jobs = {name.removeprefix("quern_"): n for name, n in found.items()}
    assert jobs.keys() >= FOLLOWING
    assert {name: n for name, n in jobs.items() if name not in FOLLOWING} == EVERYTHING
