"""How long a large sweep is read and planned: `snakemake -n` on a generated configuration.

Out: jobs, and seconds of each run. 3 models × 20 types × 2 imatrices × 2 corpora × 2 roundings.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import record
import yaml
from peer import DEMO, HOUSE

TYPES = (
    *("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K_S"),
    *("Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "IQ4_NL", "IQ4_XS"),
    *("IQ3_S", "IQ3_M", "IQ3_XXS", "IQ2_S"),
)  # fmt: skip


def build(folder: Path) -> None:
    """A copy of the workflow with the sweep for its configuration."""
    for name in ("Snakefile", "rules", "scripts", "config", "envs", "profiles"):
        source = HOUSE / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name)
    text = DEMO.parent / "text"
    models = {name: f"{name}.gguf" for name in "abc"}
    for path in models.values():
        os.symlink(DEMO, folder / path)
    sources = {
        "prose": {"name": "prose", "path": str(text / "prose.txt"), "separator": "\n\n\n"},
        "library": {"name": "library", "path": str(text / "documents.jsonl")},
    }
    config = {
        "models": models,
        "corpora": {
            name: {"sources": [source], "evaluation_characters": 150_000}
            for name, source in sources.items()
        },
        "evaluation": {"corpora": list(sources)},
        "quantize": [
            {
                "types": list(TYPES),
                "imatrix": list(sources),
                "rounding": ["ggml", "importance"],
            }
        ],
    }
    (folder / "config/config.yaml").write_text(yaml.safe_dump(config))


def main(arguments):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder)
        lines = []
        for _ in range(arguments.repeat):
            start = time.monotonic()
            result = subprocess.run(
                [sys.executable, "-m", "snakemake", "-n", "--cores", "2"],
                cwd=folder, capture_output=True, text=True,
            )  # fmt: skip
            seconds = time.monotonic() - start
            said = result.stdout + result.stderr
            found = re.search(r"^total +(\d+)", said, re.M)
            if not found:
                sys.exit(said[-3000:])
            lines.append(f"{found[1]} jobs, {seconds:.1f} s")
        record.show("\n\n".join(lines), "workflow", "parsing", record=arguments.record)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--repeat", type=int, default=3)
    record.add_option(p)
    main(p.parse_args())
