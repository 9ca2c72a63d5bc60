"""What an 8B, a 70B and a 405B cost by the formulas of `quern.cost`, on paper.

Out: the tables of docs/measurements/scale.md, as Markdown.
"""

import argparse
from dataclasses import replace

import record
from peer import HOUSE  # noqa: F401 - puts the library on the path

from quern.cost import shape, stages
from quern.cost.stages import Decoded
from quern.sizes import shown

MODELS = {
    "8B": shape.dense(32, 4096, 14336, 1024, 128256),
    "70B": shape.dense(80, 8192, 28672, 1024, 128256),
    "405B": shape.dense(126, 16384, 53248, 1024, 128256),
}
EVALUATED, POOL = Decoded(100, 512, 255), Decoded(256, 512)
CORES = 16
MOMENTS_BYTES = 16e9
KIND = "Q4_K_M"


def jobs(of: shape.Shape, gpu: int) -> dict[str, stages.Cost]:
    """One job of each stage."""
    size = stages.quantized_bytes(of, KIND)
    parts = max(1, round(5 * of.bytes / MOMENTS_BYTES))
    small = stages.quantized_bytes(of, "IQ2_S")
    return {
        "model (hash)": stages.hashing(of.bytes, of.vocab),
        "baseline, 100 windows": stages.baseline(of, EVALUATED, gpu=gpu),
        "imatrix_shard, 256 windows": stages.imatrix_shard(of, POOL, gpu),
        f"quantize, {KIND}": stages.quantize(of, KIND, size),
        "quantize, IQ2_S": stages.quantize(of, "IQ2_S", small),
        "reround, importance": stages.reround(of, KIND, "importance", size),
        "reround, compensated": stages.reround(of, KIND, "compensated", size),
        f"compare, {KIND}, 100 windows": stages.compare(of, size, EVALUATED, gpu=gpu),
        "moments, a part, 256 windows": stages.moments(of, POOL, parts, MOMENTS_BYTES, gpu),
        "damage, a window, an eighth": stages.damage(of, replace(EVALUATED, count=1), 8, gpu),
        "mix": stages.mix(of, replace(EVALUATED, count=12), gpu=gpu),
    }


def clock(seconds: float) -> str:
    """Seconds, minutes or hours, with two digits."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def table(titles: list[str], rows: list[list[str]]) -> str:
    """A Markdown table whose first column is text and whose others are numbers."""
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments) -> None:
    costs = {name: [jobs(of, gpu) for gpu in (0, 1)] for name, of in MODELS.items()}
    times, sizes = [], []
    for stage in costs["8B"][0]:
        seconds = (c[stage].seconds(CORES) for pair in costs.values() for c in pair)
        times.append([stage, *map(clock, seconds)])
        bytes_of = ((cpu[stage].memory, cpu[stage].disk) for cpu, _ in costs.values())
        sizes.append([stage, *(shown(round(n)) for pair in bytes_of for n in pair)])
    one = [stages.quantized_bytes(of, KIND) for of in MODELS.values()]
    kept = [
        ["kept", *(shown(round(40 * size)) for size in one)],
        ["with `keep: false`, one after the other", *(shown(round(size)) for size in one)],
    ]
    tables = (
        table(["job", *(f"{m} {where}" for m in MODELS for where in ("CPU", "GPU"))], times),
        table(["job, on a CPU", *(f"{m} {w}" for m in MODELS for w in ("memory", "left"))], sizes),
        table([f"40 recipes, as {KIND}", *MODELS], kept),
    )
    record.show("\n\n".join(tables), "scale", "scale", record=arguments.record)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    record.add_option(p)
    main(p.parse_args())
