"""What jobs of finished runs took, for `docs/measurements/costs.csv` and the tests of the formulas.

    .venv/bin/python benchmarks/costs.py RESULTS ... > docs/measurements/costs.csv

Out: a line for each job of the stages below, with seconds of processors and the largest resident
memory, both from Snakemake's benchmark files.
"""

import argparse
import csv
import json
import re
import sys
from pathlib import Path

# Stages by the path of a job's benchmark, below the model's; `of` is a recipe, a type, a rounding.
STAGES = {
    "model": r"model",
    "tokens": r"tokens/(?P<corpus>[^.]+)\.(?P<of>pool|evaluation)",
    "baseline": r"baseline/(?P<evaluation>.+)",
    "imatrix_shard": r"imatrix/(?P<calibration>[^/]+)/(?P<from>\d+)-(?P<to>\d+)",
    "moments": r"moments/(?P<corpus>[^/]+)/(?P<of>\d+of\d+)",
    "damage": r"mix/damage/.+/(?P<of>\d+of\d+)",
    "mix_errors": r"mix/errors/[^/]+/(?P<of>\w+)\^.+",
    "mix": r"mix/(?P<of>mix-.+)",
    "quantize": r"quantize/(?P<of>.+)",
    "compare": r"compare/(?P<of>[^/]+)/(?P<evaluation>.+)",
}
N_CTX = 512  # of all windows
COLUMNS = ("model", "stage", "of", "windows", "bytes", "core_seconds", "megabytes")


def rows(results: Path):
    """The rows of all models of a folder of results."""
    for path in sorted((results / "benchmarks").rglob("*.tsv")):
        model, _, name = path.relative_to(results / "benchmarks").as_posix().partition("/")
        for stage, pattern in STAGES.items():
            found = re.fullmatch(pattern + r"\.tsv", name)
            if found and model != "corpora":
                known = found.groupdict()
                count = windows(results / model, stage, known)
                if count is not None and count <= 0:  # a shard beyond the end of a pool
                    continue
                (taken,) = csv.DictReader(path.open(), delimiter="\t")
                yield {
                    "model": model,
                    "stage": stage,
                    "of": known.get("of"),
                    "windows": count,
                    "bytes": size(results, model, stage, known),
                    "core_seconds": taken["cpu_time"],
                    "megabytes": taken["max_rss"],
                }


def windows(folder: Path, stage: str, known: dict) -> int | None:
    """How many windows a job decoded."""
    if stage == "imatrix_shard":
        tokens = json.loads((folder / f"tokens/{known['calibration']}.pool.json").read_text())
        end = min(int(known["to"]), tokens["tokens"] // N_CTX)
        return end - int(known["from"])
    if stage in ("baseline", "compare"):
        return json.loads((folder / f"baseline/{known['evaluation']}.json").read_text())[
            "n_windows"
        ]
    return None


def size(results: Path, model: str, stage: str, known: dict) -> int | None:
    """Bytes of the text that was tokenized, of the file that was made or compared."""
    path = results / model / "quantize" / f"{known.get('of')}.gguf"
    if stage == "tokens":
        path = results / "corpora" / known["corpus"] / f"{known['of']}.txt"
    return path.stat().st_size if path.is_file() else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("results", type=Path, nargs="+")
    writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for results in parser.parse_args().results:
        writer.writerows(rows(results))


if __name__ == "__main__":
    main()
