"""The formulas, held against what was measured and against sizes on paper."""

import csv
import math
from dataclasses import replace

import pytest

from conftest import HOUSE
from quern.cost import rates, shape, stages
from quern.cost.stages import Decoded
from quern.ggml_types import QUANTIZATION_TYPES

SHAPES = {
    "demo": shape.dense(6, 256, 768, 256, 4096),
    "smollm2": shape.dense(30, 576, 1536, 192, 49152, is_tied=True),
    "gemma3": shape.dense(18, 640, 2048, 256, 262144, heads=1024, is_tied=True),
}
PAPER = {
    "8B": shape.dense(32, 4096, 14336, 1024, 128256),
    "70B": shape.dense(80, 8192, 28672, 1024, 128256),
    "405B": shape.dense(126, 16384, 53248, 1024, 128256),
}
WINDOWS = Decoded(40, 512, 255)
MIX_TYPES = 15  # that a mix chooses from, see `mix.choices`


with (HOUSE / "docs/measurements/costs.csv").open() as file:
    MEASURED = [
        pytest.param(row, id="-".join(row[key] for key in ("model", "stage", "of", "windows")))
        for row in csv.DictReader(file)
    ]


def expected(row):
    """What the formulas say of a row."""
    of, kind = SHAPES[row["model"]], row["of"].split("+")[0]
    kind, _, rounding = kind.partition("~")
    size = float(row["bytes"] or 0)
    windows = replace(WINDOWS, count=int(row["windows"] or 40))
    match row["stage"]:
        case "model":
            return stages.hashing(of.bytes, of.vocab)
        case "tokens":
            return stages.tokens(of, size)
        case "baseline":
            return stages.baseline(of, windows)
        case "compare":
            return stages.compare(of, size, windows)
        case "imatrix_shard":
            return stages.imatrix_shard(of, replace(windows, scored=0))
        case "moments":
            return stages.moments(of, replace(windows, scored=0))
        case "damage":
            return stages.damage(of, replace(windows, count=1))
        case "mix_errors":
            return stages.mix_errors(of, ["Q4_K"] * MIX_TYPES, row["of"])
        case "mix":
            how = "compensated" if "for-compensated" in kind else "ggml"
            return stages.mix(of, replace(windows, count=10), how)
        case "quantize":
            kind = kind.partition(".")[0].removeprefix("mix-as-")
            if rounding:
                return stages.reround(of, kind, rounding, size)
            return stages.quantize(of, kind, size)
    raise KeyError(row["stage"])


@pytest.mark.parametrize("row", MEASURED)
def test_time_is_within_a_factor_of_two_of_what_was_measured(row):
    found = expected(row).core_seconds
    assert 0.5 <= found / float(row["core_seconds"]) <= 2, found


@pytest.mark.parametrize("row", MEASURED)
def test_memory_is_within_a_factor_of_two_of_what_was_measured(row):
    """Pages of a file that passes count as resident where nobody needs the room."""
    cost, found = expected(row), float(row["megabytes"]) * 1e6
    assert cost.memory / 2 <= found <= 2 * (cost.memory + cost.passing), cost.memory
    assert found / 1e6 <= cost.megabytes_asked() + cost.passing / 1e6


def costs_of(of, gpu=0):
    """A cost of each stage with a usual amount of text, by name."""
    windows, size = replace(WINDOWS, count=100), stages.quantized_bytes(of, "Q4_K_M")
    pool = Decoded(256, 512)
    return {
        "baseline": stages.baseline(of, windows, gpu=gpu),
        "compare": stages.compare(of, size, windows, gpu=gpu),
        "perplexity": stages.perplexity(of, size, windows, gpu=gpu),
        "imatrix_shard": stages.imatrix_shard(of, pool, gpu=gpu),
        "moments": stages.moments(of, pool, 4, 16e9, gpu=gpu),
        "damage": stages.damage(of, replace(WINDOWS, count=1), 8, gpu=gpu),
        "mix_errors": stages.mix_errors(of, ["Q4_K"] * MIX_TYPES, "ggml"),
        "mix": stages.mix(of, replace(WINDOWS, count=12), gpu=gpu),
        "quantize": stages.quantize(of, "Q4_K_M", size),
        "reround": stages.reround(of, "Q4_K_M", "importance", size),
    }


def test_every_stage_costs_more_for_a_larger_model():
    small, middle, large = (costs_of(PAPER[name]) for name in ("8B", "70B", "405B"))
    for name in small:
        for one, other in ((small, middle), (middle, large)):
            assert one[name].seconds(8) < other[name].seconds(8), name
            assert one[name].memory <= other[name].memory, name


def test_no_job_of_a_70b_asks_for_days():
    """Before there were formulas, each asked for 71 hours and 145 GB."""
    costs = costs_of(PAPER["70B"])
    hours = {name: cost.minutes_asked(8) / 60 for name, cost in costs.items()}
    gigabytes = {name: cost.megabytes_asked() / 1e3 for name, cost in costs.items()}
    assert hours["quantize"] < 2 and gigabytes["quantize"] < 20
    assert hours["reround"] < 4 and gigabytes["reround"] < 30
    assert hours["baseline"] < 12 and hours["compare"] < 12 and hours["imatrix_shard"] < 24
    assert gigabytes["compare"] < 70 < gigabytes["baseline"] < 200
    converted = stages.conversion(PAPER["70B"].bytes)
    assert converted.disk == PAPER["70B"].bytes and converted.minutes_asked(1) < 60


def test_a_gpu_shortens_what_the_model_computes_and_nothing_else():
    of = PAPER["8B"]
    slow, fast = costs_of(of), costs_of(of, gpu=1)
    for name in ("baseline", "compare", "imatrix_shard", "perplexity"):
        assert fast[name].seconds(8) < slow[name].seconds(8) / 10, name
    assert fast["quantize"] == slow["quantize"]


def test_a_baseline_is_twice_the_blocks_for_each_token():
    of = PAPER["8B"]
    work = stages.baseline(of, WINDOWS).work * rates.FLOPS
    attention = 4 * of.attention * 256
    assert work == pytest.approx(40 * 512 * (2 * of.body + attention))
    logits = stages.baseline(of, WINDOWS, "logits")
    assert logits.work * rates.FLOPS - work == pytest.approx(40 * 255 * 2 * 128256 * 4096)
    assert stages.baseline(of, WINDOWS).disk == 40 * 255 * 2 * 4096
    assert logits.disk == 40 * 255 * 4 * 128256


def test_a_comparison_pays_the_output_matrix_twice():
    """Once to decode, and once for the baseline's logits, from hidden states."""
    of, size = PAPER["8B"], 5e9
    hidden, logits = (stages.compare(of, size, WINDOWS, store) for store in ("hidden", "logits"))
    product = 48 * 255 * 2 * 128256 * 4096
    assert (hidden.work - logits.work) * rates.PRODUCT == pytest.approx(product)


def test_parts_share_the_work_and_windows_add_up():
    of = PAPER["8B"]
    one, two = (stages.imatrix_shard(of, Decoded(n, 512)) for n in (64, 128))
    assert two.work == pytest.approx(2 * one.work)
    whole, part = (stages.damage(of, replace(WINDOWS, count=1), n) for n in (1, 8))
    assert 1 < 8 * part.work / whole.work < 1.1  # two windows more each


def test_what_is_asked_for_doubles_with_the_attempt():
    cost = stages.quantize(PAPER["8B"], "Q4_K_M", 5e9)
    assert cost.minutes_asked(8) >= 2 * cost.seconds(8) / 60
    assert cost.minutes_asked(8, 2) == pytest.approx(2 * cost.minutes_asked(8), abs=1)
    assert cost.megabytes_asked(2) == pytest.approx(2 * cost.megabytes_asked(), abs=1)


@pytest.mark.parametrize("kind", QUANTIZATION_TYPES)
def test_every_type_has_a_rate_and_a_size(kind):
    of = PAPER["8B"]
    size = stages.quantized_bytes(of, kind)
    assert 1 < 8 * size / of.weights <= 32
    assert math.isfinite(stages.quantize(of, kind, size).seconds(8))
