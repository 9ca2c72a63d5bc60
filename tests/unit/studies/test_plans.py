"""What each study asks of the stages."""

import pytest
import yaml

from conftest import HOUSE
from quern import QuernError, configuration
from quern.imatrix.calibration import Calibration, Selection
from quern.measure.evaluation import Evaluation
from quern.studies.kinds import KINDS, plans
from quern.studies.tables import TABLES

SCHEMA = yaml.safe_load((HOUSE / "config/config.schema.yaml").read_text())


def configured(**studies):
    """A configuration with these studies, defaults filled in."""
    config = {
        "models": {"m": "m.gguf"},
        "corpora": {"a": {"sources": [{"name": "a"}]}, "b": {"sources": [{"name": "b"}]}},
        "evaluation": {"corpora": ["a"], "store": "logits"},
        "quantize": [{"types": ["Q4_K_M"]}],
        "studies": studies,
    }
    configuration.check(config, SCHEMA, [])
    return config


def planned(**settings):
    return plans(configured(s=settings))["s"]


def test_plans_tables_and_schema_know_the_same_kinds():
    section = SCHEMA["properties"]["studies"]["additionalProperties"]
    assert set(KINDS) == set(TABLES) == set(section["properties"]["kind"]["enum"])
    own = {branch["if"]["properties"]["kind"]["const"] for branch in section["allOf"]}
    assert own == set(KINDS)


def test_no_study_by_default():
    assert plans(configured()) == {}


def test_contexts_of_the_calibration_the_evaluation_and_both():
    plan = planned(
        kind="context", corpus="a", contexts=[256, 512, 1024], evaluation_tokens=5000,
        calibration_tokens=8192,
    )  # fmt: skip
    assert plan.evaluations["s-eval-256"] == Evaluation(
        "a", n_ctx=256, windows=19, scored="all", store="logits"
    )
    assert plan.calibrations["s-cal-1024"] == Calibration("a", n_ctx=1024, windows=8)
    assert not any(c.is_derived for c in plan.calibrations.values())
    sizes = {(c.labels["calibration"], c.labels["evaluation"]) for c in plan.cells}
    assert sizes == {
        *((n, 512) for n in (256, 512, 1024)),  # the usual size is the base
        *((512, n) for n in (256, 1024)),
        *((n, n) for n in (256, 1024)),
    }
    assert len(plan.cells) == len(sizes)
    recipe = plan.recipes["Q4_K.pure+s-cal-256"]
    assert (recipe.pure, recipe.imatrix) == (True, "s-cal-256")


def test_all_data_sets_meet_all_and_none():
    plan = planned(kind="datasets", corpora=["a", "b"], random=["words"])
    assert [(c.labels["calibration"], c.evaluation) for c in plan.cells] == [
        (label, f"s-eval-{corpus}")
        for corpus in ("a", "b")
        for label in ("a", "b", "random-words", "none")
    ]
    assert plan.calibrations["s-random-words"].random == "words"
    assert plan.texts == {"a": "s-cal-a", "b": "s-cal-b", "random-words": "s-random-words"}
    assert "Q4_K.pure" in plan.recipes


def test_orders_have_seeds_and_that_of_the_documents_has_one_run():
    plan = planned(kind="order", corpus="a", orders=["shuffled-tokens"], seeds=3)
    assert [(c.labels["order"], c.labels["seed"]) for c in plan.cells] == [
        ("documents", 0),
        *(("shuffled-tokens", seed) for seed in range(3)),
    ]
    assert len({c.windows for c in plan.calibrations.values()}) == 1
    assert all(c.is_derived for c in plan.calibrations.values())


def test_parts_of_a_pool_are_chosen_by_its_own_evaluation():
    plan = planned(kind="subsampling", corpus="a", ladder=[8], pool_windows=16, seeds=2)
    assert plan.evaluations["s-pool"].part == "pool"
    assert plan.evaluations["s-pool"].windows == 16
    assert plan.calibrations["s-full"] == Calibration("a", windows=16)
    assert plan.calibrations["s-highest-8"].select == Selection("s-pool", 8, "highest", "Q2_K.pure")
    assert plan.calibrations["s-random-8-1"].select == Selection("s-pool", 8, "random", None)
    assert not [c.objection for c in plan.calibrations.values() if c.objection]
    assert [c.labels["which"] for c in plan.cells] == [
        "none", "full", "highest", "random", "random", "lowest",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "less", "more"),
    [
        (
            {"kind": "context", "corpus": "a"},
            {"contexts": [512, 1024]},
            {"contexts": [512, 1024, 2048]},
        ),
        ({"kind": "datasets"}, {"corpora": ["a"]}, {"corpora": ["a", "b"]}),
        ({"kind": "order", "corpus": "a"}, {"seeds": 2}, {"seeds": 3}),
        ({"kind": "subsampling", "corpus": "a"}, {"ladder": [8]}, {"ladder": [8, 16]}),
    ],
)  # fmt: skip
def test_a_longer_axis_changes_nothing_that_was_there(kind, less, more):
    before, after = planned(**kind, **less), planned(**kind, **more)
    for part in ("evaluations", "calibrations", "recipes"):
        assert getattr(before, part).items() <= getattr(after, part).items()
    assert all(cell in after.cells for cell in before.cells)
    assert len(after.cells) > len(before.cells)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"kind": "order", "corpus": "c"},
            "studies.s.corpus: there is no corpus c; there are a, b",
        ),
        (
            {"kind": "context", "corpus": "a", "contexts": [512, 768]},
            "studies.s.contexts: 512 does not divide the longest, 768",
        ),
        (
            {"kind": "context", "corpus": "a", "evaluation_tokens": 6000},
            "studies.s.evaluation_tokens: 6000 tokens are no two windows of 4096",
        ),
        (
            {"kind": "datasets", "corpora": ["a"], "types": ["IQ2_S"]},
            "studies.s.types: .* llama.cpp refuses for IQ2_S",
        ),
        (
            {"kind": "subsampling", "corpus": "a", "ladder": [64]},
            "studies.s.ladder: 64 windows are not less than the pool's 64",
        ),
        ({"kind": "order"}, "'corpus' is a required property"),
        ({"kind": "order", "corpus": "a", "ladder": [8]}, "unknown key 'ladder'; known are kind"),
        ({"kind": "ordre"}, "there is no 'ordre'; did you mean order"),
        ({"corpus": "a"}, "'kind' is a required property"),
    ],
)
def test_what_cannot_be_is_a_sentence(settings, words):
    with pytest.raises(QuernError, match=words):
        planned(**settings)
