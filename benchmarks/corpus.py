"""Time and memory of building and tokenizing a large corpus.

Out: a Markdown table. The text is generated: documents of words of the demo's text, drawn by a
seed with frequencies that fall off as in language, half of them as JSON lines, half as text.
Every command runs by itself, so that its peak memory is its own.
"""

import argparse
import json
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

import record
from peer import DEMO, script, timed

TEXT = DEMO.parent / "text"
GENERATE = "--generate"


def generate(folder: Path, size: int, seed: int, median: int) -> None:
    """Write `a.jsonl` and `b.txt`, together about `size` bytes, `median` words a document."""
    import numpy as np

    text = "".join((TEXT / name).read_text() for name in ("documents.jsonl", "prose.txt"))
    counts = Counter(re.findall(r"[^\W\d_]{1,15}", text.replace("\\n", " ")))
    words = np.array([word for word, _ in counts.most_common()], object)
    shares = np.array([n for _, n in counts.most_common()], float)
    limits = np.cumsum(shares / shares.sum())
    rng, written, number = np.random.default_rng(seed), 0, 0
    with open(folder / "a.jsonl", "w") as lines, open(folder / "b.txt", "w") as plain:
        while written < size:
            length = int(rng.lognormal(np.log(median), 1.0)) + 1
            drawn = words[np.searchsorted(limits, rng.random(length), side="right")]
            document = f"{number}. " + " ".join(drawn)
            if number % 2:
                lines.write(json.dumps({"text": document}) + "\n")
            else:
                plain.write(document + "\n%%\n")
            written += len(document)
            number += 1


def measure(folder: Path, size: int, model: Path | None) -> list[tuple[str, int, float, int]]:
    """What was done, of how many bytes, in how many seconds, with how many bytes of memory."""
    rows = []
    sources = [
        {"name": "lines", "path": str(folder / "a.jsonl"), "weight": 2},
        {"name": "plain", "path": str(folder / "b.txt"), "separator": "\n%%\n", "weight": 1},
    ]
    for order in ("shuffled", "random-windows"):
        corpus = folder / order
        taken = script(
            "corpus",
            *("--sources", json.dumps(sources), "--order", order, "--output", corpus),
        )
        rows.append((f"corpus, {order}", size, *taken))
    if model is None:
        return rows
    script("model", "--model", model, "--output", folder / "model.json")
    pool = folder / "shuffled/pool.txt"
    common = ["--model", model, "--info", folder / "model.json"]
    common += ["--output", folder / "t.h5", "--facts", folder / "t.json"]
    for name, more in (
        ("tokens, text as it is", []),
        ("tokens, mixed in random windows", ["--corpus", folder / "random-windows/corpus.json"]),
    ):
        part = ["--text", pool, "--documents", folder / "shuffled/documents.csv"]
        rows.append((name, pool.stat().st_size, *script("tokens", *common, *part, *more)))
    return rows


def main(arguments):
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        options = ["--bytes", arguments.bytes, "--seed", arguments.seed, "--words", arguments.words]
        timed(sys.executable, __file__, GENERATE, folder, *options)
        size = sum((folder / file).stat().st_size for file in ("a.jsonl", "b.txt"))
        lines = ["| step | MB | s | MB/s | peak MiB |\n| --- | ---: | ---: | ---: | ---: |"]
        model = None if arguments.corpus_only else arguments.model
        for step, count, seconds, peak in measure(folder, size, model):
            rate = count / 1e6 / seconds
            lines.append(
                f"| {step} | {count / 1e6:.0f} | {seconds:.1f} | {rate:.1f} | {peak / 2**20:.0f} |"
            )
        record.show("\n".join(lines), "corpora", "corpus", record=arguments.record)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--bytes", type=int, default=1_000_000_000, help="size of the text")
    p.add_argument("--words", type=int, default=330, help="median length of a document")
    p.add_argument("--corpus-only", action="store_true", help="leave out the tokenizer")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--model", type=Path, default=DEMO, help="whose tokenizer")
    p.add_argument("--folder", type=Path, help="where to work; needs six times the size")
    record.add_option(p)
    p.add_argument(GENERATE, type=Path, metavar="FOLDER", help="only write the text here")
    a = p.parse_args()
    generate(a.generate, a.bytes, a.seed, a.words) if a.generate else main(a)
