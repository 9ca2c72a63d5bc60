"""Peak memory of a process that fills a context, against what Quern computes.

    .venv/bin/python benchmarks/memory.py results/memory [MODEL.gguf ...]

Each model is measured as it is at all contexts and types of the K/V cache, and quantized to each
usual type at one context. One process loads the model and decodes as many tokens as the context
holds; of three such processes the middle one counts. From its peak (VmHWM) goes what any such
process takes: the peak of one that does the same with a model of next to nothing (less the little
that is computed for that), and what the vocabulary is larger, as processes show that load it alone.
What is left is the model's own, and is held against what Quern computes. Writes a CSV and prints it
as Markdown.
"""

import argparse
import functools
import json
import math
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import peer  # first: it says where quern lies
import record

from models import write_model
from quern import llama
from quern.gguf_files import model_info, tensors_of
from quern.memory.footprint import THREADS, footprint

TYPES = ("BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_0", "Q4_K_M", "Q4_1", "Q4_0", "Q3_K_M", "Q2_K")
TYPES += ("IQ4_NL", "IQ4_XS", "IQ3_XXS", "IQ2_XS", "IQ1_M")
QUANTIZED_AT = {"contexts": [512], "kv_types": ["f16"]}
CONTEXTS = (512, 2048, 8192, 32768)
KV_TYPES = ("f16", "q8_0")


def peak() -> int:
    """The most memory that this process had, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) << 10


def child(model: str, n_ctx: int, kv_type: str, threads: int) -> None:
    """Fill a context, or load the vocabulary alone where it is 0; print the peak."""
    if n_ctx:
        with (
            llama.Model(model, llama.Way(threads=threads), kv_type=kv_type) as loaded,
            llama.Bench(loaded, n_ctx) as bench,
        ):
            bench.prompt(n_ctx - 1)
            bench.generate(1)
            print(json.dumps(peak()))
    else:
        with llama.Model(model, load="vocab"):
            print(json.dumps(peak()))


@functools.cache
def measured(model: Path, n_ctx: int, kv_type: str, threads: int) -> int:
    """The middle peak of three processes of their own."""
    options = ["--child", model, n_ctx, kv_type, threads]
    command = [sys.executable, __file__, *map(str, options)]
    runs = [subprocess.run(command, check=True, capture_output=True) for _ in range(3)]
    return statistics.median(json.loads(run.stdout) for run in runs)


def process(tiny: Path, n_ctx: int, kv_type: str, threads: int) -> int:
    """What a process that fills a context takes whatever the model."""
    computed = footprint(tiny, model_info(tiny), contexts=[n_ctx], kv_types=[kv_type])
    return measured(tiny, n_ctx, kv_type, threads) - computed["contexts"][0]["total_bytes"]


def quantized(model: Path, kind: str, folder: Path) -> Path:
    """A model quantized with all importances alike, which is as large as any other of its type."""
    path = folder / f"{model.stem}-{kind}.gguf"
    matrices = {name: t.shape for name, t in tensors_of(model).items() if len(t.shape) > 1}
    importances = {
        name: np.ones(columns * math.prod(more), np.float32)
        for name, (columns, _, *more) in matrices.items()
    }
    llama.quantize(model, path, llama.QuantizationParameters(kind, importances), threads=2)
    return path


def rows(model: Path, tiny: Path, **wanted) -> Iterator[dict]:
    """What is computed and measured for a model at each context and type of the K/V cache."""
    vocabulary = measured(model, 0, "f16", 1) - measured(tiny, 0, "f16", 1)
    computed = footprint(model, model_info(model), **wanted)
    sizes = {name: computed[f"{name}_bytes"] for name in ("tensor", "repacked")}
    for entry in computed["contexts"]:
        at = (entry["n_ctx"], entry["kv_type"], THREADS)
        of_process = process(tiny, *at) + vocabulary
        own = measured(model, *at) - of_process
        row = {"context": at[0], "K/V": at[1]} | sizes | {"cache": entry["kv_bytes"]}
        row |= {"buffers": entry["compute_bytes"], "computed": entry["total_bytes"]}
        yield row | {"measured": own, "off": entry["total_bytes"] / own - 1}


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("output", type=Path, help="folder to write memory.csv to")
    p.add_argument("models", type=Path, nargs="*", default=[peer.DEMO])
    p.add_argument("--longest", type=int, default=CONTEXTS[-1], help="context to fill at most")
    record.add_option(p)
    arguments = p.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = {"n_embd": 32, "n_ff": 32, "n_layer": 1, "n_head": 1}
        tiny = write_model(folder / "tiny.gguf", **sizes, context_length=CONTEXTS[-1])
        for model in arguments.models:
            longest = min(model_info(model).context_length, arguments.longest)
            contexts = [n for n in CONTEXTS if n <= longest]
            whole = rows(model, tiny, contexts=contexts, kv_types=list(KV_TYPES))
            found += [{"model": model.stem, "type": "F16"} | row for row in whole]
            for kind in TYPES:
                path = quantized(model, kind, folder)
                of_kind = rows(path, tiny, **QUANTIZED_AT)
                found += [{"model": model.stem, "type": kind} | row for row in of_kind]
                path.unlink()
                print(found[-1], file=sys.stderr, flush=True)
    frame = pd.DataFrame(found)
    arguments.output.mkdir(parents=True, exist_ok=True)
    frame.to_csv(arguments.output / "memory.csv", index=False)
    shown = frame.copy()
    shown["context"] = shown["context"].map("{:,}".format)
    for name in ("tensor", "repacked", "cache", "buffers", "computed", "measured"):
        shown[name] = (shown[name] / (1 << 20)).map("{:.1f}".format)
    shown["off"] = shown["off"].map("{:+.1%}".format)
    record.show(record.markdown(shown), "memory", "memory", record=arguments.record)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        name, n_ctx, kind, threads = sys.argv[2:]
        child(name, int(n_ctx), kind, int(threads))
    else:
        main()
