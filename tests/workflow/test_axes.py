"""Evaluations and calibrations as axes: the jobs that they name, and what is refused."""

import pytest

from .conftest import CONFIG, build
from .test_reruns import EVERYTHING

TOP = {"evaluation": "pool", "recipe": "Q2_K", "windows": 2}
EVALUATIONS = {
    "long": {"corpus": "topics", "n_ctx": 128},
    "pool": {"corpus": "topics", "part": "pool"},
}
CALIBRATIONS = {
    "wide": {"corpus": "topics", "n_ctx": 128, "windows": 3},
    "shuffled": {"corpus": "topics", "order": "shuffled-documents"},
    "noise": {"corpus": "topics", "random": "words"},
    "top": {"corpus": "topics", "select": TOP},
}


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A house in which nothing was made yet."""
    house = build(tmp_path_factory.mktemp("bare") / "house")
    (house.folder / "input").mkdir()
    for name in ("tiny.gguf", "text.txt"):
        (house.folder / "input" / name).touch()
    return house


def sweep(*imatrices):
    return {"quantize": [{"types": ["Q2_K"], "imatrix": ["none", *imatrices]}]}


def test_without_them_the_jobs_are_as_ever(bare):
    bare.configure(CONFIG)
    assert bare.would_run() == EVERYTHING


def test_an_evaluation_has_its_baseline_comparisons_and_summary(bare):
    bare.configure(CONFIG | {"evaluations": EVALUATIONS})
    more = {"baseline": 2, "compare": 8, "summary": 2}
    assert bare.would_run() == {k: n + more.get(k, 0) for k, n in EVERYTHING.items()}
    target = "results/tiny/baseline/pool.h5"
    assert bare.would_run(target) == {"model": 1, "corpus": 1, "tokens": 1, "baseline": 1}


def test_a_calibration_is_a_pool_of_its_own_or_made_of_one(bare):
    bare.configure(
        CONFIG | sweep("wide", "shuffled", "noise") | {"calibrations": CALIBRATIONS | {}}
        | {"evaluations": EVALUATIONS}
    )  # fmt: skip
    jobs = bare.would_run("imatrices")
    assert jobs["tokens"] == 1 and jobs["calibration_tokens"] == 2
    assert all(jobs[name] == 3 for name in ("imatrix_shard", "imatrix", "imatrix_of_corpus"))
    assert "results/tiny/imatrix/wide/3.gguf" in bare.snakemake("-n", "imatrices").stdout


def test_nothing_grows_but_the_pool_of_a_corpus(bare):
    bare.configure(
        CONFIG | sweep("topics", "shuffled", "wide")
        | {"calibrations": CALIBRATIONS, "evaluations": EVALUATIONS, "growth": {"types": ["Q2_K"]}}
    )  # fmt: skip
    assert bare.would_run()["grow"] == 1


def test_a_selection_needs_the_comparison_on_the_pool(bare):
    bare.configure(
        CONFIG | sweep("top") | {"calibrations": CALIBRATIONS, "evaluations": EVALUATIONS}
    )
    jobs = bare.would_run("results/tiny/tokens/top.calibration.h5")
    expected = ["model", "corpus", "tokens", "baseline", "quantize", "compare"]
    assert jobs == dict.fromkeys([*expected, "calibration_tokens"], 1)


def select(**changes):
    return {"top": {"corpus": "topics", "select": TOP | changes}}


@pytest.mark.parametrize(
    ("calibrations", "said"),
    [
        ({"topics": {"corpus": "topics"}}, "calibrations.topics: a corpus has this name"),
        ({"x": {"corpus": "topic"}}, "there is no 'topic'; did you mean topics?"),
        (
            {"x": {"corpus": "topics", "order": "documents", "random": "words"}},
            "do not go together",
        ),
        (select(evaluation="long"), "long must be of the same windows"),
        (select(windows=7), "pool has only 6 windows"),
        (select(recipe="Q2_J"), "there is no 'Q2_J'"),
        (select(recipe="Q2_K+top"), "choose a recipe with another imatrix"),
    ],
)
def test_what_cannot_work_is_a_sentence(bare, calibrations, said):
    known = {"calibrations": calibrations, "evaluations": EVALUATIONS}
    bare.configure(CONFIG | sweep(*(["top"] if "top" in calibrations else [])) | known)
    result = bare.snakemake("-n")
    assert result.returncode == 1
    assert said in result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr


def test_documents_and_contexts_of_mixed_windows(bare):
    mixed = {"topics": CONFIG["corpora"]["topics"] | {"order": "random-windows"}}
    for entry, said in (
        ({"order": "documents"}, "documents cannot be told apart"),
        ({"n_ctx": 128}, "so n_ctx must be 64"),
    ):
        calibrations = {"x": {"corpus": "topics"} | entry}
        bare.configure(CONFIG | {"corpora": mixed, "calibrations": calibrations})
        result = bare.snakemake("-n")
        assert said in result.stdout + result.stderr
