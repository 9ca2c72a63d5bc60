"""The formulas, held against what was measured and against sizes on paper."""

import csv
import math
from dataclasses import replace

import pytest

from conftest import HOUSE
from quern.cost import rates, shape, stages
from quern.cost.stages import Windows

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
WINDOWS = Windows(40, 512, 255)
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
            return stages.hashing(of, of.bytes)
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
            kind = kind.partition(".")[0]
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
