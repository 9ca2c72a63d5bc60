"""Time and memory of the measurement, beside llama-perplexity's in the same run.

In: the folder of llama.cpp's tools in LLAMA_CPP_TOOLS, see docs/measurements.md. Out: a Markdown
table of ratios and, with --growth, how time and memory grow (Markdown and a picture). The models
are generated. Every figure is the best of --repeat runs of a whole command, start-up included.
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

HOUSE = Path(__file__).parent.parent
sys.path[:0] = [str(HOUSE / "scripts"), str(HOUSE / "tests")]

from models import write_model
from quern import corpora, sources

DEMO = HOUSE / "resources/demo/demo-f16.gguf"


@dataclass
class Case:
    """A model to measure with, and the limits that the project set itself (ratios to the peer)."""

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


def timed(*line) -> tuple[float, int]:
    """Run a command; wall-clock seconds and peak resident bytes (children included)."""
    with tempfile.TemporaryFile() as output:
        start = time.monotonic()
        process = subprocess.Popen(list(map(str, line)), stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        if status:
            output.seek(0)
            sys.exit(f"{' '.join(map(str, line))} failed:\n{output.read()[-3000:].decode()}")
    return seconds, usage.ru_maxrss * 1024


class Bench:
    """One model, its text and its files in a folder."""

    def __init__(self, folder: Path, tools: Path, case: Case, threads: int, repeat: int):
        self.folder, self.tools, self.threads, self.repeat = folder, tools, threads, repeat
        self.windows = case.windows
        self.model = DEMO if case.shape is None else folder / "model.gguf"
        if case.shape:
            # In a process of its own: a child's peak memory begins with its parent's.
            maker = multiprocessing.get_context("spawn").Process(
                target=write_model, args=(self.model,), kwargs=case.shape
            )
            maker.start()
            maker.join()
        library = sources.Source("library", str(DEMO.parent / "text/documents.jsonl"))
        text = corpora.SEPARATOR.join(sources.documents(library))
        self.text = folder / "text.txt"
        self.text.write_text(text)
        self.quantized = folder / "Q8_0.gguf"
        subprocess.run(
            [tools / "llama-quantize", self.model, self.quantized, "Q8_0"],
            check=True, capture_output=True,
        )  # fmt: skip
        for name in ("model", "Q8_0"):
            path = self.model if name == "model" else self.quantized
            self.script("model", "--model", path, "--output", folder / f"{name}.json")
        self.script(
            *("tokens", "--model", self.model, "--info", folder / "model.json"),
            *("--text", self.text, "--output", folder / "t.h5", "--facts", folder / "t.json"),
        )

    def script(self, name, *arguments):
        return timed(sys.executable, HOUSE / "scripts" / f"{name}.py", *arguments)

    def best(self, run) -> tuple[float, int]:
        results = [run() for _ in range(self.repeat)]
        return min(r[0] for r in results), min(r[1] for r in results)

    def peer(self, n_ctx=512, windows=None):
        """Seconds and bytes of the peer's two passes, and the size of its base file."""
        base = self.folder / "base.dat"
        common = ["-f", self.text, "-c", n_ctx, "-t", self.threads, "--no-repack", "-ngl", "0"]
        common += ["--kl-divergence-base", base]
        tool = self.tools / "llama-perplexity"
        write = self.best(
            lambda: timed(tool, "-m", self.model, *common, "--chunks", windows or self.windows)
        )
        read = self.best(lambda: timed(tool, "-m", self.quantized, *common, "--kl-divergence"))
        size = base.stat().st_size
        base.unlink()
        return write, read, size

    def imatrix(self):
        """Seconds and bytes of llama-imatrix and of a shard of the same windows."""
        f = self.folder
        common = ["-f", self.text, "-c", 512, "-t", self.threads, "--no-repack", "-ngl", "0"]
        tool = [self.tools / "llama-imatrix", "-m", self.model, *common, "-o", f / "peer.gguf"]
        peer = self.best(lambda: timed(*tool, "--chunks", self.windows))
        ours = self.best(
            lambda: self.script(
                *("imatrix_shard", "--model", self.model, "--info", f / "model.json"),
                *("--tokens", f / "t.h5", "--to", self.windows, "--threads", self.threads),
                *("--output", f / "s.h5", "--log", f / "log"),
            )
        )
        return peer, ours

    def baseline(self, store, n_ctx=512, windows=None):
        f = self.folder
        output = f / "b.h5"

        def run():
            output.unlink(missing_ok=True)
            return self.script(
                *("baseline", "--model", self.model, "--info", f / "model.json"),
                *("--tokens", f / "t.h5", "--windows", windows or self.windows),
                *("--n-ctx", n_ctx, "--store", store, "--threads", self.threads),
                *("--output", output, "--facts", f / "b.json", "--log", f / "log"),
            )

        return self.best(run), output.stat().st_size

    def compare(self):
        f = self.folder

        def run():
            (f / "c.h5").unlink(missing_ok=True)
            return self.script(
                *("compare", "--model", self.quantized, "--info", f / "Q8_0.json"),
                *("--baseline", f / "b.h5", "--baseline-model", self.model),
                *("--baseline-info", f / "model.json"),
                *("--threads", self.threads, "--output", f / "c.h5", "--windows", f / "c.csv"),
                *("--summary", f / "c.json", "--text", f / "c.txt", "--log", f / "log"),
            )

        return self.best(run)


def ratios(name: str, case: Case, bench: Bench) -> list[list[str]]:
    """The rows of one case."""
    (base_s, _), (peer_s, peer_b), peer_size = bench.peer()
    rows = []

    def row(what, peer, ours, unit, limit):
        ratio = ours / peer
        said = "" if limit is None else f"{limit:.3g}"
        mark = "" if limit is None else ("within" if ratio <= limit else "beyond")
        rows.append(
            [name, what, f"{peer:.4g} {unit}", f"{ours:.4g} {unit}", f"{ratio:.3g}", said, mark]
        )

    (logits_s, _), _ = bench.baseline("logits")
    row("baseline pass, logits", base_s, logits_s, "s", None)
    seconds, memory = bench.compare()
    row("comparison, store logits", peer_s, seconds, "s", case.limits["logits"])
    row("peak memory, logits", peer_b / 1e6, memory / 1e6, "MB", case.limits.get("memory"))
    (hidden_s, _), size = bench.baseline("auto")
    row("baseline pass", base_s, hidden_s, "s", case.limits["baseline"])
    seconds, memory = bench.compare()
    row("comparison, store hidden", peer_s, seconds, "s", case.limits["hidden"])
    row("peak memory, hidden", peer_b / 1e6, memory / 1e6, "MB", case.limits.get("memory"))
    (peer_s, peer_b), (seconds, memory) = bench.imatrix()
    row("imatrix", peer_s, seconds, "s", case.limits.get("imatrix"))
    row("peak memory, imatrix", peer_b / 1e6, memory / 1e6, "MB", None)
    scored = case.windows * 255
    row("bytes per scored token", peer_size / scored, size / scored, "B", case.limits["bytes"])
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
    p.add_argument("--repeat", type=int, default=2, help="runs of each command; the best counts")
    p.add_argument("--growth", type=Path, metavar="PNG", help="measure growth instead, and draw it")
    arguments = p.parse_args()
    tools = os.environ.get("LLAMA_CPP_TOOLS")
    if not tools or not (Path(tools) / "llama-perplexity").is_file():
        sys.exit(
            "LLAMA_CPP_TOOLS does not name a folder with llama-perplexity and llama-quantize; "
            "docs/measurements.md says how to build them."
        )
    rows = []
    for name in arguments.cases:
        with tempfile.TemporaryDirectory() as folder:
            case = CASES[name]
            bench = Bench(
                *(Path(folder), Path(tools).resolve(), case, arguments.threads, arguments.repeat)
            )
            if arguments.growth:
                print(growth(bench, arguments.growth).to_markdown(index=False, floatfmt=".4g"))
                return
            rows += ratios(name, case, bench)
            print(*rows[-9:], sep="\n", file=sys.stderr, flush=True)
    columns = ["model", "what", "llama.cpp", "Quern", "ratio", "limit", ""]
    print(pd.DataFrame(rows, columns=columns).to_markdown(index=False, disable_numparse=True))


if __name__ == "__main__":
    main()
