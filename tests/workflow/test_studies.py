"""Studies in a sweep that has run: which jobs they ask for, and what a longer axis adds."""

import pandas as pd
import pytest

from .conftest import CONFIG

SMALL = {"evaluation_tokens": 384, "calibration_tokens": 256, "types": ["Q8_0"]}


@pytest.fixture
def study(house):
    """A function that configures one study, and says which jobs it asks for."""

    def jobs(**settings):
        house.configure(CONFIG | {"studies": {"s": settings}})
        return house.would_run("studies")

    return jobs


def expected(calibrations, evaluations, cells, recipes, made=0, **others):
    """The jobs of a study: each calibration is a shard, a merge, and what takes its name."""
    found = {"imatrix_shard": calibrations, "imatrix": calibrations}
    found |= {"imatrix_of_corpus": calibrations, "calibration_tokens": made}
    found |= {"baseline": evaluations, "quantize": recipes, "compare": cells}
    return {rule: n for rule, n in (found | others).items() if n} | {"study": 1, "studies": 1}


def test_each_study_asks_for_its_own_jobs(study):
    assert study(kind="context", corpus="topics", contexts=[32, 64], **SMALL) == expected(
        calibrations=2, evaluations=2, cells=4, recipes=2
    )
    assert study(kind="datasets", corpora=["topics"], random=["words"], **SMALL) == expected(
        calibrations=2, evaluations=1, cells=3, recipes=3, made=1
    )
    assert study(
        kind="order", corpus="topics", orders=["shuffled-tokens"], seeds=2, **SMALL
    ) == expected(calibrations=3, evaluations=1, cells=3, recipes=3, made=3)
    small = {key: value for key, value in SMALL.items() if key != "calibration_tokens"}
    assert study(
        kind="subsampling", corpus="topics", ladder=[2], pool_windows=6, seeds=2, **small
    ) == expected(calibrations=5, evaluations=2, cells=7, recipes=7, made=4)


def test_a_study_runs_and_a_longer_axis_runs_only_what_is_new(house):
    settings = {"kind": "order", "corpus": "topics", "orders": ["shuffled-tokens"], **SMALL}
    house.configure(CONFIG | {"studies": {"s": settings | {"seeds": 2}}})
    house.run("studies")
    folder = house.folder / "results/tiny/studies/s"
    frame = pd.read_csv(folder / "table.csv")
    assert list(frame[frame.seed == "all"].order) == ["documents", "shuffled-tokens"]
    assert "against the order of the documents" in (folder / "index.md").read_text()
    assert (folder / "picture.png").stat().st_size > 1000
    # The stage by itself says the same.
    recipe = "Q8_0.pure+s-shuffled-tokens-1"
    alone = pd.read_json(house.folder / f"results/tiny/compare/{recipe}/s-eval.json")
    value = frame[(frame.order == "shuffled-tokens") & (frame.seed == "1")].value.item()
    assert value == pytest.approx(alone.figures["kld_mean"]["value"])
    assert house.would_run("studies") == {}
    house.configure(CONFIG | {"studies": {"s": settings | {"seeds": 3}}})
    new = expected(calibrations=1, evaluations=0, cells=1, recipes=1, made=1)
    assert house.would_run("studies") == new


def test_what_cannot_be_is_said_before_anything_runs(house):
    def said(study, **more):
        house.configure(CONFIG | {"studies": study} | more)
        return house.snakemake("-n").stdout

    order = {"kind": "order", "corpus": "topics", **SMALL}
    assert "studies.s.corpus: there is no corpus topic" in said({"s": order | {"corpus": "topic"}})
    taken = said({"s": order}, evaluations={"s-eval": {"corpus": "topics"}})
    assert "studies.s: it makes s-eval, and another has this name" in taken
    datasets = {"kind": "datasets", "corpora": ["topics"], **SMALL}
    other = [{"types": ["Q8_0"], "variant": "pure", "output_type": "Q6_K"}]
    clash = said({"s": datasets}, quantize=other)
    assert "studies.s: another recipe Q8_0.pure has other options" in clash
