"""Quern's clock against llama-bench, in turns on the same machine, with the same libraries.

    LLAMA_CPP_TOOLS=build/bin .venv/bin/python benchmarks/speed.py results/speed [MODEL.gguf ...]

In each round both time a prompt and generated tokens, and who begins changes. llama-bench starts
anew each time (its warm-up run does not count) and loads llama-cpp-python's own libraries. Writes
all samples as CSV. Prints the median of the ratios with its 95 % interval (bootstrap over rounds),
and the ratio of the fastest samples, which other programs on the machine disturb least.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "300000")  # as in scripts/speed.py

import numpy as np
import pandas as pd
import peer  # first: it says where quern lies
import record
from tqdm import tqdm

from quern import llama

LIMIT = 0.03


class LlamaBench:
    """llama-bench on one model."""

    def __init__(self, model: Path, threads: int):
        folder = os.environ.get("LLAMA_CPP_TOOLS", "")
        self._program = Path(folder, "llama-bench")
        if not self._program.is_file():
            sys.exit("LLAMA_CPP_TOOLS does not name a folder with llama-bench.")
        self._options = ["-m", model, "-t", threads, "-ngl", 0, "-r", 1, "-o", "json"]

    def rate(self, kind: str, n: int) -> float:
        """Tokens per second."""
        counts = ("-p", n, "-n", 0) if kind == "pp" else ("-p", 0, "-n", n)
        command = [str(x) for x in (self._program, *self._options, *counts)]
        waits = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")  # which Quern sets for itself
        environment = {k: v for k, v in os.environ.items() if k not in waits}
        environment["LD_LIBRARY_PATH"] = str(llama.FOLDER)
        result = subprocess.run(command, env=environment, capture_output=True, check=True)
        return json.loads(result.stdout)[0]["samples_ts"][0]


def quern_rate(bench: llama.Bench, kind: str, n: int) -> float:
    """Tokens per second, after a run that does not count, as llama-bench has it."""
    bench.fill(0)
    bench.prompt(n) if kind == "pp" else bench.generate(1)
    bench.fill(0)
    return n / (bench.prompt(n) if kind == "pp" else bench.generate(n))


def compare(path: Path, prompt: int, generation: int, repeats: int, threads: int) -> list[dict]:
    """Samples of both for each round and test."""
    rows, other = [], LlamaBench(path, threads)
    with (
        llama.Model(path, llama.Way(threads=threads)) as model,
        llama.Bench(model, max(prompt, generation)) as bench,
    ):
        for number in tqdm(range(repeats), desc=path.stem, disable=None):
            for kind, n in (("pp", prompt), ("tg", generation)):
                rates = {}
                for which in ("quern", "llama-bench")[:: 1 if number % 2 else -1]:
                    own = which == "quern"
                    rates[which] = quern_rate(bench, kind, n) if own else other.rate(kind, n)
                rows.append({"model": path.stem, "test": f"{kind}{n}", "round": number} | rates)
    return rows


def verdict(low: float, middle: float, high: float) -> str:
    """Whether a ratio is near enough to 1, by its interval."""
    if abs(middle - 1) <= LIMIT:
        return "within"
    return "beyond" if low > 1 + LIMIT or high < 1 - LIMIT else "cannot tell"


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Medians of both, and the median of the ratios with its interval, for each model and test."""
    rng, rows = np.random.default_rng(0), []
    for (model, test), some in frame.groupby(["model", "test"], sort=False):
        ratios = (some["quern"] / some["llama-bench"]).to_numpy()
        drawn = np.median(rng.choice(ratios, (9999, len(ratios))), axis=1)
        low, high = np.quantile(drawn, [0.025, 0.975])
        middle = np.median(ratios)
        rows.append(
            {
                "model": model,
                "test": test,
                "rounds": len(some),
                "llama-bench": f"{some['llama-bench'].median():.1f}",
                "Quern": f"{some['quern'].median():.1f}",
                "ratio": f"{middle:.3f}",
                "95 %": f"{low:.3f} to {high:.3f}",
                "of the fastest": f"{some['quern'].max() / some['llama-bench'].max():.3f}",
                "verdict": verdict(low, middle, high),
            }
        )
    return pd.DataFrame(rows)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("output", type=Path, help="folder to write llama-bench.csv to")
    p.add_argument("models", type=Path, nargs="*", default=[peer.DEMO])
    p.add_argument("--prompt", type=int, default=512)
    p.add_argument("--generation", type=int, default=128)
    p.add_argument("--repeats", type=int, default=20)
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    record.add_option(p)
    arguments = p.parse_args()
    counts = (arguments.prompt, arguments.generation, arguments.repeats, arguments.threads)
    rows = [row for path in arguments.models for row in compare(path, *counts)]
    frame = pd.DataFrame(rows)
    arguments.output.mkdir(parents=True, exist_ok=True)
    frame.to_csv(arguments.output / "llama-bench.csv", index=False)
    table = record.markdown(summary(frame))
    record.show(table, "llama-bench", "speed", record=arguments.record)


if __name__ == "__main__":
    main()
