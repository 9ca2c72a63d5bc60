"""Studies in a sweep that has run: which jobs they ask for, and what a longer axis adds."""

import pandas as pd
import pytest

from .conftest import CONFIG, require_watched

SMALL = {"evaluation_tokens": 384, "calibration_tokens": 256, "types": ["Q8_0"]}


def test_studies_ask_for_their_own_jobs_and_share_what_they_have_in_common(house):
    part = {key: value for key, value in SMALL.items() if key != "calibration_tokens"}
    pool = {"ladder": [2], "pool_windows": 6, "seeds": 2}
    studies = {
        "a": {"kind": "context", "corpus": "topics", "contexts": [32, 64], **SMALL},
        "b": {"kind": "datasets", "corpora": ["topics"], "random": ["words"], **SMALL},
        "c": {"kind": "order", "corpus": "topics", "orders": ["shuffled-tokens"], **SMALL},
        "d": {"kind": "subsampling", "corpus": "topics", **pool, **part},
    }
    studies["c"]["seeds"] = 2
    house.configure(CONFIG | {"studies": studies})
    calibrations = 2 + 2 + 3 + 5
    assert house.would_run("studies") == {
        "calibration_tokens": 0 + 1 + 3 + 4,
        "imatrix_shard": calibrations,
        "imatrix": calibrations,
        "imatrix_of_corpus": calibrations,
        "baseline": 2 + 0 + 0 + 1,  # b, c and d evaluate as a does; d has a pool as well
        "quantize": calibrations + 1 + 1,  # without an imatrix b and d have one recipe, and a judge
        "compare": 4 + 3 + 3 + 7,
        "study": 4,
        "studies": 1,
    }


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
    house.configure(CONFIG | {"studies": {"s": settings | {"seeds": 3}}})
    new = {"calibration_tokens", "imatrix_shard", "imatrix", "imatrix_of_corpus", "quantize"}
    new |= {"compare", "study", "studies"}
    assert house.would_run("studies") == dict.fromkeys(new, 1)
    require_watched(house.folder / "results")


def test_what_cannot_be_is_said_before_anything_runs(house):
    def said(study, **more):
        house.configure(CONFIG | {"studies": study} | more)
        return house.snakemake("-n").stdout

    order = {"kind": "order", "corpus": "topics", **SMALL}
    taken = said({"s": order}, evaluations={"s-eval": {"corpus": "topics"}})
    assert "studies.s: it makes s-eval, and another has this name" in taken
    datasets = {"kind": "datasets", "corpora": ["topics"], **SMALL}
    other = [{"types": ["Q8_0"], "variant": "pure", "output_type": "Q6_K"}]
    clash = said({"s": datasets}, quantize=other)
    assert "studies.s: another recipe Q8_0.pure has other options" in clash
