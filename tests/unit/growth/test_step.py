"""One step of a growth: the mean of ln(score), and gains over the steps before."""

import json

import h5py
import numpy as np
import pytest

from quern import QuernError, files
from quern.growth import step
from quern.measure import comparison
from quern.measure.divergence import FIGURES
from quern.measure.window_store import WindowStore

WINDOWS, POSITIONS = 16, 24
REPORT = {
    "windows": 8,
    "tokens": 512,
    "exhausted": False,
    "noise_median": 0.25,
    "noise_max": 0.5,
    "unreached": {"blk.0.x.weight": 2, "blk.1.x.weight": 3},
}


def compared(path, scale, windows=range(WINDOWS), seed=0):
    """A comparison whose divergences are `scale` times those of the same windows elsewhere."""
    rng = np.random.default_rng(seed)
    kld = rng.exponential(size=(WINDOWS, POSITIONS)) * rng.exponential(size=(WINDOWS, 1))
    other = np.random.default_rng(seed + 1).exponential(size=kld.shape)
    sets = {name: ((POSITIONS,), dtype) for name, dtype in FIGURES.items()}
    sets["source"] = ((POSITIONS,), np.uint8)
    with WindowStore.resume_or_create(path, WINDOWS, sets, {"sources": "[]"}) as store:
        for w in windows:
            nll = other[w]
            store.write(
                w,
                kld=scale * kld[w],
                nll_base=nll,
                nll=nll + scale * 0.1,
                dp=-0.01 * scale * kld[w].clip(0, 1),
                same_top=kld[w] * scale < 1,
            )
            store.commit(w)
        store.finish(path)
    return path


@pytest.fixture
def report(tmp_path):
    files.write_json(tmp_path / "report.json", REPORT)
    return tmp_path / "report.json"


def measured(report, folder, scales, earlier=(), number=0, **options):
    """The facts of a step whose types have these scales, and its HDF5."""
    positions = {
        kind: compared(folder / f"{number}-{kind}.h5", scale, **options)
        for kind, scale in zip(("Q2_K", "Q4_0"), scales, strict=False)
    }
    output = folder / f"{number}.h5"
    return step.measure(number, report, positions, list(earlier), output), positions, output


def test_the_measure_is_the_mean_of_ln_score_over_types(report, tmp_path):
    facts, positions, _ = measured(report, tmp_path, (1.0, 0.2))
    results = {kind: comparison.summarize(path)[0] for kind, path in positions.items()}
    scores = [result["figures"]["score"]["value"] for result in results.values()]
    assert facts["ln_score"] == pytest.approx(np.mean(np.log(scores)), rel=1e-12)
    assert facts["gains"] == []
    for kind, result in results.items():
        for name, figure in facts["figures"][kind].items():
            expected = result["figures"][name]
            assert figure == {key: expected[key] for key in ("value", "low", "high")}


def test_facts_of_the_imatrix_are_taken_over(report, tmp_path):
    facts, _, _ = measured(report, tmp_path, (1.0,), number=3)
    own = {key: value for key, value in REPORT.items() if key != "unreached"}
    assert facts.items() >= own.items()
    assert (facts["step"], facts["unreached"], facts["evaluation_windows"]) == (3, 5, WINDOWS)
    assert facts == json.loads(json.dumps(facts))


def test_gains_are_differences_of_the_measure(report, tmp_path):
    """Positive where a step lowers the score."""
    steps, outputs = [], []
    for number, scales in enumerate(((1.0, 1.0), (0.7, 0.8), (0.9, 0.5))):
        facts, _, output = measured(report, tmp_path, scales, outputs, number)
        steps.append(facts)
        outputs.append(output)
    for number, facts in enumerate(steps):
        assert [gain["over"] for gain in facts["gains"]] == list(range(number))
        for gain in facts["gains"]:
            expected = steps[gain["over"]]["ln_score"] - facts["ln_score"]
            assert gain["value"] == pytest.approx(expected, abs=1e-12)
            assert gain["low"] <= gain["value"] <= gain["high"]
    assert steps[1]["gains"][0]["low"] > 0


def test_scaling_all_divergences_gains_the_logarithm_with_certainty(report, tmp_path):
    """Score has the degree 1, so every resampled difference is the same."""
    _, _, first = measured(report, tmp_path, (1.0, 0.3))
    facts, _, _ = measured(report, tmp_path, (0.5, 0.15), [first], 1)
    (gain,) = facts["gains"]
    for end in ("value", "low", "high"):
        assert gain[end] == pytest.approx(np.log(2), abs=1e-5)


def test_the_same_comparisons_gain_nothing(report, tmp_path):
    _, _, first = measured(report, tmp_path, (1.0, 0.3))
    facts, _, _ = measured(report, tmp_path, (1.0, 0.3), [first], 1)
    assert facts["gains"] == [{"over": 0, "value": 0, "low": 0, "high": 0}]


def test_intervals_are_wider_where_windows_differ(report, tmp_path):
    """Paired: the same windows with other noise are less alike than with the same."""
    _, _, first = measured(report, tmp_path, (1.0,))
    paired, _, _ = measured(report, tmp_path, (0.9,), [first], 1)
    apart, _, _ = measured(report, tmp_path, (0.9,), [first], 2, seed=7)
    widths = [g["high"] - g["low"] for facts in (paired, apart) for g in facts["gains"]]
    assert widths[0] < widths[1] / 100


@pytest.mark.parametrize("windows", [range(WINDOWS - 1), range(1, WINDOWS), [0, *range(2, 16)]])
def test_other_windows_are_refused(report, tmp_path, windows):
    _, _, first = measured(report, tmp_path, (1.0,))
    with pytest.raises(QuernError, match=r"0\.h5 was measured on other windows; delete it"):
        measured(report, tmp_path, (0.9,), [first], 1, windows=windows)
    assert not (tmp_path / "1.h5").exists()


def test_a_step_that_is_damaged_is_named(report, tmp_path):
    _, _, first = measured(report, tmp_path, (1.0,))
    cut = tmp_path / "cut.h5"
    cut.write_bytes(first.read_bytes()[:500])
    with h5py.File(tmp_path / "other.h5", "w") as h5:
        h5["windows"] = np.arange(WINDOWS)
    damaged = "is damaged, or no step of a growth"
    for name, said in (("cut.h5", damaged), ("other.h5", damaged), ("gone.h5", "does not exist")):
        with pytest.raises(QuernError, match=f"{name} {said}"):
            measured(report, tmp_path, (0.9,), [tmp_path / name], 1)
