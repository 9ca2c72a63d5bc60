"""Time and memory of the measurement, beside llama-perplexity's in the same run.

In: the folder of llama.cpp's tools in LLAMA_CPP_TOOLS, see docs/measurements/agreement.md. Out: a
Markdown table of ratios and, with --growth, how time and memory grow (Markdown and a picture). The
models are generated. Every figure is the best of --repeat runs of a whole command, start-up
included; the commands take turns, so that a machine that gets slower slows them all.
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import record
from peer import DEMO, DEMO_TEXT, common_options, script, timed, tools

from models import write_model
from quern.corpus import build, sources
from quern.corpus.readers import documents


@dataclass
class Case:
    """A model to measure with, and the limits that the project set itself (ratios to llama.cpp)."""

    windows: int
    shape: dict | None
    limits: dict = field(default_factory=dict)


CASES = {
    "small body, large vocabulary": Case(
        40,
        {"n_embd": 512, "n_layer": 4, "n_head": 8, "n_ff": 1536, "tokens": 128256},
        {
            "baseline": 0.5,
            "logits": 0.75,
            "hidden": 1.0,
            "bytes": 1 / 200,
            "memory": 0.7,
            "imatrix": 0.2,
        },
    ),
    "1B shape": Case(
        4,
        {"n_embd": 2048, "n_layer": 16, "n_head": 32, "n_ff": 8192, "tokens": 128256},
        {"baseline": 1.0, "logits": 1.0, "hidden": 1.1, "bytes": 1 / 60, "memory": 0.9},
    ),
    "demo": Case(
        300, None, {"baseline": 1.0, "logits": 1.0, "hidden": 1.1, "bytes": 1 / 25, "imatrix": 0.9}
    ),
}


class Bench:
    """One model, its text and its files in a folder."""

    def __init__(self, folder: Path, case: Case, threads: int):
        self.folder, self.tools, self.threads = folder, tools(), threads
        self.windows, self.store = case.windows, folder / "b.h5"
        self.model = DEMO if case.shape is None else folder / "model.gguf"
        if case.shape:
            # In a process of its own: a child's peak memory begins with its parent's.
            maker = multiprocessing.get_context("spawn").Process(
                target=write_model, args=(self.model,), kwargs=case.shape
            )
            maker.start()
            maker.join()
        library = sources.Source("library", str(DEMO_TEXT))
        text = build.SEPARATOR.join(documents(library))
        self.text = folder / "text.txt"
        self.text.write_text(text)
        self.quantized = folder / "Q8_0.gguf"
        subprocess.run(
            [self.tools / "llama-quantize", self.model, self.quantized, "Q8_0"],
            check=True, capture_output=True,
        )  # fmt: skip
        for name in ("model", "Q8_0"):
            path = self.model if name == "model" else self.quantized
            script("model", "--model", path, "--output", folder / f"{name}.json")
        script(
            *("tokens", "--model", self.model, "--info", folder / "model.json"),
            *("--text", self.text, "--output", folder / "t.h5", "--facts", folder / "t.json"),
        )

    def llama(self) -> dict[str, tuple[float, int]]:
        """Seconds and bytes of llama.cpp's passes and imatrix, and the size of its base file."""
        f = self.folder
        base = f / "base.dat"
        common = common_options(self.text, 512, self.threads)
        kld, chunks = ["--kl-divergence-base", base], ["--chunks", self.windows]
        perplexity, imatrix = (self.tools / f"llama-{name}" for name in ("perplexity", "imatrix"))
        found = {
            "baseline": timed(perplexity, "-m", self.model, *common, *kld, *chunks),
            "compare": timed(perplexity, "-m", self.quantized, *common, *kld, "--kl-divergence"),
            "imatrix": timed(imatrix, "-m", self.model, *common, *chunks, "-o", f / "llama.gguf"),
            "size": (0, base.stat().st_size),
        }
        base.unlink()
        return found

    def imatrix(self) -> tuple[float, int]:
        f = self.folder
        return script(
            *("imatrix_shard", "--model", self.model, "--info", f / "model.json"),
            *("--tokens", f / "t.h5", "--to", self.windows, "--threads", self.threads),
            *("--output", f / "s.h5", "--log", f / "log"),
        )

    def baseline(self, store, n_ctx=512, windows=None) -> tuple[float, int]:
        f = self.folder
        self.store.unlink(missing_ok=True)
        return script(
            *("baseline", "--model", self.model, "--info", f / "model.json"),
            *("--tokens", f / "t.h5", "--windows", windows or self.windows),
            *("--n-ctx", n_ctx, "--store", store, "--threads", self.threads),
            *("--output", self.store, "--facts", f / "b.json", "--log", f / "log"),
        )

    def compare(self) -> tuple[float, int]:
        f = self.folder
        (f / "c.h5").unlink(missing_ok=True)
        return script(
            *("compare", "--model", self.quantized, "--info", f / "Q8_0.json"),
            *("--baseline", self.store, "--baseline-model", self.model),
            *("--baseline-info", f / "model.json"),
            *("--threads", self.threads, "--output", f / "c.h5", "--windows", f / "c.csv"),
            *("--summary", f / "c.json", "--text", f / "c.txt", "--log", f / "log"),
        )

    def turn(self) -> dict[str, tuple[float, int]]:
        """Seconds and bytes of every command, each run once."""
        found = {f"llama.cpp's {name}": value for name, value in self.llama().items()}
        for store in ("logits", "auto"):
            found[f"baseline {store}"] = self.baseline(store)
            found[f"compare {store}"] = self.compare()
        found["size"] = (0, self.store.stat().st_size)
        found["imatrix"] = self.imatrix()
        return found


def best_of(runs: list[dict[str, tuple[float, int]]]) -> dict[str, tuple[float, int]]:
    """The least seconds and bytes of each command."""
    return {name: tuple(min(run[name][k] for run in runs) for k in range(2)) for name in runs[0]}


def ratios(name: str, case: Case, found: dict[str, tuple[float, int]]) -> list[list[str]]:
    """The rows of one case."""
    scored = case.windows * 255
    rows = []
    for what, limit, theirs, ours, k, scale, unit in (
        ("baseline pass, logits", None, "baseline", "baseline logits", 0, 1, "s"),
        ("comparison, store logits", "logits", "compare", "compare logits", 0, 1, "s"),
        ("peak memory, logits", "memory", "compare", "compare logits", 1, 1e6, "MB"),
        ("baseline pass", "baseline", "baseline", "baseline auto", 0, 1, "s"),
        ("comparison, store hidden", "hidden", "compare", "compare auto", 0, 1, "s"),
        ("peak memory, hidden", "memory", "compare", "compare auto", 1, 1e6, "MB"),
        ("imatrix", "imatrix", "imatrix", "imatrix", 0, 1, "s"),
        ("peak memory, imatrix", None, "imatrix", "imatrix", 1, 1e6, "MB"),
        ("bytes per scored token", "bytes", "size", "size", 1, scored, "B"),
    ):
        theirs, ours = found[f"llama.cpp's {theirs}"][k], found[ours][k]
        limit = case.limits.get(limit)
        mark = "" if limit is None else ("within" if ours <= limit * theirs else "beyond")
        values = (f"{value / scale:.4g} {unit}" for value in (theirs, ours))
        said = "" if limit is None else f"{limit:.3g}"
        rows.append([name, what, *values, f"{ours / theirs:.3g}", said, mark])
    return rows


def growth(bench: Bench, picture: Path) -> pd.DataFrame:
    """Seconds and peak memory of a comparison (store hidden) by windows and by context length."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = []
    for n_ctx, windows in [(512, n) for n in (5, 10, 20, 40)] + [
        (n, 20480 // n + (n > 10240)) for n in (1024, 2048, 4096, 8192, 16384)
    ]:
        windows = max(2, windows)
        bench.baseline("hidden", n_ctx, windows)
        seconds, memory = bench.compare()
        rows.append([n_ctx, windows, n_ctx * windows, seconds, memory / 1e6])
        print(rows[-1], file=sys.stderr, flush=True)
    frame = pd.DataFrame(rows, columns=["n_ctx", "windows", "tokens", "seconds", "peak MB"])
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    by_windows, by_context = frame[frame.n_ctx == 512], frame[frame.windows * frame.n_ctx >= 16384]
    for side, part, x in ((axes[0], by_windows, "windows"), (axes[1], by_context, "n_ctx")):
        seconds = part.seconds if x == "windows" else 1000 * part.seconds / part.tokens
        side.plot(part[x], seconds, "o-", label="seconds" if x == "windows" else "ms per token")
        side.set(xlabel=x, ylim=(0, None), ylabel=side.lines[0].get_label())
        other = side.twinx()
        other.plot(part[x], part["peak MB"], "s--", color="tab:orange")
        other.set(ylabel="peak memory (MB)", ylim=(0, None))
    axes[1].set_xscale("log", base=2)
    figure.savefig(picture, dpi=120)
    return frame


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    p.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--repeat", type=int, default=3, help="runs of each command; the best counts")
    p.add_argument("--growth", type=Path, metavar="PNG", help="measure growth instead, and draw it")
    record.add_option(p)
    arguments = p.parse_args()
    rows = []
    for name in arguments.cases:
        with tempfile.TemporaryDirectory() as folder:
            case = CASES[name]
            bench = Bench(Path(folder), case, arguments.threads)
            if arguments.growth:
                table = growth(bench, arguments.growth).to_markdown(index=False, floatfmt=".4g")
                record.show(table, "speed", "instrument growth", record=arguments.record)
                return
            found = best_of([bench.turn() for _ in range(arguments.repeat)])
            rows += ratios(name, case, found)
            print(*rows[-9:], sep="\n", file=sys.stderr, flush=True)
    columns = ["model", "what", "llama.cpp", "Quern", "ratio", "limit", "verdict"]
    table = record.markdown(pd.DataFrame(rows, columns=columns))
    record.show(table, "speed", "instrument", record=arguments.record)


if __name__ == "__main__":
    main()
