"""Growth with the real workflow: one invocation reaches the right answer, a second does nothing."""

import copy
import json
import shutil

import pytest

from models import write_model
from quern.growth.decision import decide

from .conftest import CONFIG, House, build, require_watched

LARGEST = 512
GROWTH = {
    "types": ["Q2_K"],
    "first_tokens": 64,
    "factor": 2,
    "largest_tokens": LARGEST,
    "min_gain": 0.0,
    "patience": 9,
}
STEP = {"imatrix": 1, "growth_quantize": 1, "growth_compare": 1, "growth_step": 1}
# The level without an imatrix is one more model to quantize and to compare.
LEVEL = {"growth_quantize": 1, "growth_compare": 1}
LAST = {"grow": 1, "imatrix_of_corpus": 1, "imatrix_statistics": 1}
RECIPE = {"quantize": 1, "compare": 1, "summary": 1}


def configuration(**changes):
    config = copy.deepcopy(CONFIG)
    config["imatrix"] = {"n_ctx": 64}
    config["quantize"] = [{"types": ["Q2_K"], "imatrix": ["topics"]}]
    config["growth"] = GROWTH | changes
    return config


def jobs(*parts, **more):
    total = {}
    for part in (*parts, more):
        for name, n in part.items():
            total[name] = total.get(name, 0) + n
    return total


def steps(n):
    return jobs(*[STEP] * n)


def decision(house, **settings):
    """The decision of these settings, checked against the stop rule applied to its steps."""
    settings = GROWTH | settings
    name = "*-{types[0]}-*-to-{largest_tokens}-gain-{min_gain:g}-patience-{patience}"
    (path,) = (house.folder / "results/tiny/growth/topics").glob(name.format(**settings))
    result = json.loads((path / "decision.json").read_text())
    rule = {"min_gain": settings["min_gain"], "patience": settings["patience"]}
    for n in range(1, len(result["steps"])):
        assert not decide(result["steps"][:n], **rule).stop
    expected = decide(result["steps"], **rule, last=True)
    assert result["decision"]["chosen"] == expected.chosen
    return result


def used(house):
    return (house.folder / "results/tiny/imatrix/topics.gguf").read_bytes()


def of_step(house, result):
    windows = result["steps"][result["decision"]["chosen"]]["windows"]
    return (house.folder / f"results/tiny/imatrix/topics/{windows}.gguf").read_bytes()


@pytest.fixture(scope="module")
def grown(tmp_path_factory, texts):
    house = build(tmp_path_factory.mktemp("grown"))
    (house.folder / "input").mkdir()
    write_model(house.folder / "input/tiny.gguf")
    (house.folder / "input/text.txt").write_text("\n%%\n".join(texts[:30]))
    house.configure(configuration())
    house.first_jobs = house.run(report=True)
    return house


@pytest.fixture
def house(grown, tmp_path):
    return House(shutil.copytree(grown.folder, tmp_path / "house"))


def nothing_to_do(house):
    return house.run() == {}


def test_the_first_run_takes_every_rung_once(grown):
    result = decision(grown)
    assert [step["windows"] for step in result["steps"]] == [1, 2, 4, 8]
    assert result["decision"]["reason"] == "the largest size is reached"
    assert used(grown) == of_step(grown, result)
    expected = jobs(steps(4), LEVEL, LAST, RECIPE, imatrix_shard=4)
    expected |= {"model": 1, "corpus": 1, "tokens": 2, "baseline": 1}
    assert grown.first_jobs == expected
    result = grown.snakemake()
    assert "Nothing to be done" in result.stderr + result.stdout
    folder = next((grown.folder / "results/tiny/growth/topics").glob("*/steps.png")).parent
    assert "Chosen: step" in (folder / "steps.md").read_text()


def test_a_higher_demand_stops_earlier_and_collects_nothing(house):
    """Half the score is never gained, so the first gain already disappoints."""
    settings = {"min_gain": 0.5, "patience": 1}
    house.configure(configuration(**settings))
    ran = house.run()
    result = decision(house, **settings)
    assert len(result["steps"]) == 2
    assert used(house) == of_step(house, result)
    assert ran.keys() <= (LAST | RECIPE).keys()
    assert nothing_to_do(house)
    house.configure(configuration())  # and back
    assert house.run().keys() <= (LAST | RECIPE).keys()
    assert used(house) == of_step(house, decision(house))
    assert nothing_to_do(house)


def test_a_longer_ladder_adds_its_step_and_nothing_else(house):
    house.configure(configuration(largest_tokens=2 * LARGEST))
    ran = house.run()
    result = decision(house, largest_tokens=2 * LARGEST)
    assert len(result["steps"]) == 5
    collected = {name: n for name, n in ran.items() if name not in LAST | RECIPE}
    assert collected == jobs(STEP, imatrix_shard=1)
    assert nothing_to_do(house)
    house.configure(configuration(largest_tokens=LARGEST // 2))
    ran = house.run()
    assert ran.keys() <= (LAST | RECIPE).keys()
    assert len(decision(house, largest_tokens=LARGEST // 2)["steps"]) == 3


def test_another_evaluation_text_measures_again_and_collects_nothing(house):
    house.configure(configuration() | {"evaluation": CONFIG["evaluation"] | {"windows": 5}})
    ran = house.run()
    assert "imatrix_shard" not in ran and "imatrix" not in ran
    assert ran["growth_step"] == 4 and ran["growth_compare"] == 5 and ran["baseline"] == 1
    assert decision(house)["steps"][0]["evaluation_windows"] == 5
    assert nothing_to_do(house)


def test_another_growth_type_measures_anew_and_collects_nothing(house):
    house.configure(configuration(types=["Q3_K_S"]))
    ran = house.run()
    assert "imatrix_shard" not in ran and "imatrix" not in ran
    assert ran["growth_step"] == 4 and ran["growth_quantize"] == 5
    assert len(decision(house, types=["Q3_K_S"])["steps"]) == 4
    assert nothing_to_do(house)


def test_another_pool_collects_everything_again(house):
    config = configuration()
    config["corpora"]["topics"]["seed"] = 3
    house.configure(config)
    ran = house.run()
    assert ran["imatrix_shard"] == 4 and ran["growth_step"] == 4
    assert used(house) == of_step(house, decision(house))
    assert nothing_to_do(house)


def test_deleted_steps_are_made_again_when_they_are_needed(house):
    """A finished choice needs no step; one to be made needs them all."""
    (choice,) = (house.folder / "results/tiny/growth/topics").glob("*/decision.json")
    before = decision(house)["decision"]
    for path in choice.parent.parent.glob("*/2.*"):
        path.unlink()
    assert nothing_to_do(house)
    for path in choice.parent.iterdir():
        path.unlink()
    ran = house.run()
    assert ran["growth_step"] in (1, 2)  # the deleted one, and the one that builds on it
    assert ran.keys() <= (LAST | RECIPE).keys() | {"growth_step"}
    assert decision(house)["decision"] == before
    assert nothing_to_do(house)


def test_eager_growth_makes_all_rungs_and_chooses_the_same(house):
    before = decision(house)["decision"]["chosen"]
    house.configure(configuration(eager=True))
    ran = house.run()
    assert ran.keys() <= (LAST | RECIPE).keys()
    paths = (house.folder / "results/tiny/growth/topics").glob("*-eager/decision.json")
    result = json.loads(next(paths).read_text())
    assert result["decision"]["chosen"] == before
    assert len(result["steps"]) == 4
    assert nothing_to_do(house)


def test_users_imatrix_beside_the_grown_one(house):
    shutil.copy(house.folder / "results/tiny/imatrix/topics/1.gguf", house.folder / "theirs.gguf")
    config = configuration()
    config["imatrix"]["files"] = {"theirs": "theirs.gguf"}
    config["quantize"][0] |= {"imatrix": ["topics", "theirs"]}
    house.configure(config)
    assert house.run() == {"quantize": 1, "compare": 1, "summary": 1}
    table = (house.folder / "results/tiny/summary/topics.csv").read_text()
    for name in ("Q2_K+topics", "Q2_K+theirs"):
        assert f"\n{name}," in table
    assert nothing_to_do(house)
    require_watched(house.folder / "results")
