"""Peak memory of a process that fills a context, against what Quern computes.

    .venv/bin/python benchmarks/memory.py results/memory [MODEL.gguf ...]

For each model, context and type of the K/V cache, one process loads the model and decodes as many
tokens as the context holds. From its peak (VmHWM) goes what any such process takes: the peak of
one that does the same with a model of next to nothing (less the little that is computed for that),
and what the vocabulary is larger, as processes show that load it alone. What is left is the
model's own, and is held against what Quern computes. Writes a CSV and prints it as Markdown.
"""

import argparse
import functools
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import peer  # first: it says where quern lies
import record

from models import write_model
from quern import llama
from quern.gguf_files import model_info
from quern.memory.footprint import footprint

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
    """The peak of a process of its own."""
    options = ["--child", model, n_ctx, kv_type, threads]
    command = [sys.executable, __file__, *map(str, options)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def process(tiny: Path, n_ctx: int, kv_type: str, threads: int) -> int:
    """What a process that fills a context takes whatever the model."""
    computed = footprint(tiny, model_info(tiny), contexts=[n_ctx], kv_types=[kv_type])
    return measured(tiny, n_ctx, kv_type, threads) - computed["contexts"][0]["total_bytes"]


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("output", type=Path, help="folder to write memory.csv to")
    p.add_argument("models", type=Path, nargs="*", default=[peer.DEMO])
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--longest", type=int, default=CONTEXTS[-1], help="context to fill at most")
    record.add_option(p)
    arguments = p.parse_args()
    tiny = write_model(
        Path(tempfile.mkdtemp()) / "tiny.gguf",
        **{"n_embd": 32, "n_ff": 32, "n_layer": 1, "n_head": 1, "context_length": CONTEXTS[-1]},
    )
    rows = []
    for model in arguments.models:
        info = model_info(model)
        contexts = [n for n in CONTEXTS if n <= min(info.context_length, arguments.longest)]
        vocabulary = measured(model, 0, "f16", 1) - measured(tiny, 0, "f16", 1)
        computed = footprint(model, info, contexts=contexts, kv_types=list(KV_TYPES))
        for entry in computed["contexts"]:
            n_ctx, kind = entry["n_ctx"], entry["kv_type"]
            of_process = process(tiny, n_ctx, kind, arguments.threads) + vocabulary
            own = measured(model, n_ctx, kind, arguments.threads) - of_process
            row = {"model": model.stem, "tensors": info.tensor_bytes} | entry
            row |= {"measured_bytes": own, "process_bytes": of_process}
            row["off"] = entry["total_bytes"] / own - 1
            rows.append(row)
            print(row, file=sys.stderr, flush=True)
    frame = pd.DataFrame(rows)
    arguments.output.mkdir(parents=True, exist_ok=True)
    frame.to_csv(arguments.output / "memory.csv", index=False)
    shown = frame.copy()
    for name in [c for c in shown if c.endswith("bytes") or c == "tensors"]:
        shown[name] = (shown[name] / (1 << 20)).map("{:.1f}".format)
    shown["off"] = shown["off"].map("{:+.1%}".format)
    record.show(record.markdown(shown), "memory", "memory", record=arguments.record)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        name, n_ctx, kind, threads = sys.argv[2:]
        child(name, int(n_ctx), kind, int(threads))
    else:
        main()
