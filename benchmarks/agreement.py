"""Hold Quern against llama.cpp's own tools: same model, same text, same windows.

In: the demo model and text (or others), and the folder of llama-perplexity, llama-imatrix and
llama-quantize in LLAMA_CPP_TOOLS. Out: a Markdown table of figures, limits and verdicts. Exits
with 1 if a limit is passed.

The tools must be built from the llama.cpp that llama-cpp-python contains, see
docs/measurements/agreement.md.
"""

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import peer  # first: it says where quern lies
import record

from quern import gguf_files
from quern.corpus import build, sources
from quern.imatrix import formats, shards
from quern.llama import Model, Way
from quern.measure import comparison, printout
from quern.measure.baseline import Baseline, write_baseline
from quern.quantize import quantization
from quern.quantize.recipes import Recipe
from quern.tokens import windows
from quern.tokens.work import Work

KINDS = ("Q4_K_M", "Q2_K")
NUMBER = r"([-+0-9.einf]+)"
# The figures of the page; the CSV file beside it has all of them.
SHOWN = (
    *("imatrix", "imatrix entries", "imatrix counts", "tensor data", "PPL of the baseline"),
    *("MeanPPL(Q)/PPL(base)", "MeanKLD", "MeanKLD ±", "99.0%KLD", "MinimumKLD", "Sametopp"),
)
PREFIX = rf"^({'|'.join(KINDS)}) "


class Tools:
    """llama.cpp's tools, run with the settings that Quern uses."""

    def __init__(self, model: Path, text: Path, n_ctx: int, threads: int):
        self.folder = peer.tools()
        self.common = peer.common_options(text, n_ctx, threads)
        self.model = model

    def run(self, tool: str, *arguments) -> str:
        return peer.output_of(self.folder / tool, *arguments)

    def baseline(self, base: Path, n: int) -> float:
        """Write the base file; return the perplexity."""
        out = self.run(
            "llama-perplexity",
            *("-m", self.model, *self.common, "--chunks", n, "--kl-divergence-base", base),
        )
        return float(re.search(rf"Final estimate: PPL = {NUMBER}", out)[1])

    def compare(self, quantized: Path, base: Path) -> str:
        return self.run(
            "llama-perplexity",
            *("-m", quantized, *self.common, "--kl-divergence-base", base, "--kl-divergence"),
        )


def printed(text: str) -> dict[str, tuple[float, float | None]]:
    """Value and ± of every line of the statistics, by its label without white space."""
    found = {}
    for line in text.splitlines():
        match = re.match(rf"(.*\S)\s*:\s+{NUMBER}\s*%?(?:\s*±\s*{NUMBER})?", line)
        if match and ("KLD" in line or "Δp" in line or "PPL(" in line or "Same top" in line):
            label = "".join(match[1].split())
            found[label] = float(match[2]), float(match[3]) if match[3] else None
    return found


def tolerance(label: str, value: float) -> tuple[str, float]:
    """How far apart the two may be."""
    if label == "Sametopp":
        return "0.1", 0.1
    if label in ("MeanKLD", "MedianKLD", "90.0%KLD", "95.0%KLD", "99.0%KLD"):
        return "0.5 % or 2e-5", max(0.005 * abs(value), 2e-5)
    if "KLD" in label:
        return "1 % or 2e-4", max(0.01 * abs(value), 2e-4)
    if "Δp" in label:
        return "1 % or 0.02", max(0.01 * abs(value), 0.02)
    return "1e-3 or 2e-4", max(1e-3 * abs(value), 2e-4)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    p.add_argument("--model", type=Path, default=peer.DEMO)
    p.add_argument("--text", type=Path, help="default: the demo's held-back text")
    p.add_argument("--n-ctx", type=int, default=512)
    p.add_argument("--windows", type=int, default=40)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    record.add_option(p)
    arguments = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), arguments)
    table = pd.DataFrame(
        rows, columns=["figure", "llama.cpp", "Quern", "difference", "limit", "verdict"]
    )
    record.keep(table, "agreement", record=arguments.record)
    some = table[table["figure"].str.replace(PREFIX, "", regex=True).isin(SHOWN)]
    record.show(record.markdown(some), "agreement", "agreement", record=arguments.record)
    sys.exit(any(row[-1] == "beyond" for row in rows))


def measure(folder: Path, arguments) -> list[list[str]]:
    n_ctx, n, threads = arguments.n_ctx, arguments.windows, arguments.threads
    text = arguments.text or demo_text(folder)
    tools = Tools(arguments.model, text, n_ctx, threads)
    rows = []

    def row(name, theirs, ours, difference, limit, within):
        rows.append([name, theirs, ours, difference, limit, "within" if within else "beyond"])

    info = gguf_files.model_info(arguments.model)
    with Model(arguments.model, Way(threads=threads)) as model:
        windows.tokenize_text(model, info.tokenizer_sha256, text, folder / "tokens.h5")
        work = Work(arguments.model, info, windows.read_tokens(folder / "tokens.h5"), n_ctx)
        write_baseline(model, work, folder / "b.h5", limit=n)
        shards.collect(model, work, folder / "shard.h5", last=n)
    formats.write(shards.merge([folder / "shard.h5"], "d").matrix, folder / "ours.gguf")

    base_ppl = tools.baseline(folder / "base", n)
    tools.run(
        "llama-imatrix",
        *("-m", arguments.model, *tools.common, "--chunks", n, "-o", folder / "theirs.gguf"),
    )

    theirs, ours = (formats.read(folder / f"{w}.gguf") for w in ("theirs", "ours"))
    names = f"{len(ours.sums)} tensors"
    row(
        "imatrix",
        f"{len(theirs.sums)} tensors",
        names,
        "",
        "same",
        theirs.sums.keys() == ours.sums.keys(),
    )
    worst, counts = 0.0, True
    for name, sums in theirs.sums.items():
        margin = 0.002 * sums + 0.0001 * sums.mean()
        worst = max(worst, float((abs(ours.sums[name] - sums) / margin).max()))
        counts &= bool((ours.counts[name] == theirs.counts[name]).all())
    row(
        "imatrix entries", "", "", f"{worst:.2f} of the limit", "0.2 % + 0.01 % of mean", worst <= 1
    )
    row("imatrix counts", "", "", "", "same", counts)

    for kind in KINDS:
        quantized = folder / f"{kind}.gguf"
        recipe = Recipe(kind)
        quantization.quantize(
            arguments.model, info, recipe, quantized, imatrix=folder / "ours.gguf", threads=threads
        )
        tools.run(
            *("llama-quantize", "--imatrix", folder / "ours.gguf", arguments.model),
            *(folder / "llama.gguf", kind, threads),
        )
        mine, other = (gguf_files.open_gguf(f) for f in (quantized, folder / "llama.gguf"))
        equal = [t.name for t in mine.tensors] == [t.name for t in other.tensors] and all(
            a.data.tobytes() == b.data.tobytes()
            for a, b in zip(mine.tensors, other.tensors, strict=True)
        )
        row(f"{kind} tensor data", "", "", "", "same bytes", equal)
        known = gguf_files.model_info(quantized)
        own = comparison.Comparison(quantized, known, folder / f"{kind}.h5")
        with Baseline(folder / "b.h5", arguments.model, info) as baseline:
            comparison.compare([own], baseline, Way(threads=threads))
        result, _ = comparison.summarize(own.output)
        if kind == KINDS[0]:
            found = result["figures"]["ppl_base"]["value"]
            gap = abs(found / base_ppl - 1)
            row("PPL of the baseline", f"{base_ppl:.4f}", f"{found:.4f}",
                f"{gap:.1e}", "1e-4", gap <= 1e-4)  # fmt: skip
        theirs, ours = (
            printed(text)
            for text in (tools.compare(quantized, folder / "base"), printout.text(result))
        )
        if missing := sorted(set(theirs) - set(ours)):
            sys.exit(f"not printed here: {', '.join(missing)}")
        for label, (a, plus_minus) in theirs.items():
            b, own = ours[label]
            said, allowed = tolerance(label, a)
            row(f"{kind} {label}", f"{a:.6g}", f"{b:.6g}", f"{b - a:+.1e}", said,
                abs(b - a) <= allowed)  # fmt: skip
            if plus_minus:
                row(f"{kind} {label} ±", f"{plus_minus:.6g}", f"{own:.6g}",
                    f"{own - plus_minus:+.1e}", "1 % or 0.001",
                    abs(own - plus_minus) <= max(0.01 * plus_minus, 1e-3))  # fmt: skip
    return rows


def demo_text(folder: Path) -> Path:
    """The evaluation part of the demo's text."""
    source = sources.Source("library", str(peer.DEMO_TEXT))
    build.build([source], folder, build.CorpusSettings(evaluation_characters=150_000))
    return folder / "evaluation.txt"


if __name__ == "__main__":
    np.seterr(divide="ignore")
    main()
