"""Sweep small models of many architectures through every stage, and hold them against llama.cpp.

In: the converter's environment (`envs/converter.sh`), and for the comparisons the folder of
llama.cpp's tools in LLAMA_CPP_TOOLS, see docs/measurements/agreement.md. Out: a folder that keeps
models, sweeps and a JSON file for each architecture, and a table of all that it keeps. What is kept
is not done again, so that a run may be interrupted, and `--names` without a name records alone.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import yaml
from peer import HOUSE, common_options, output_of
from record import add_option, markdown, show

from quern import files

N_CTX, WINDOWS = 128, 4
# What agrees whatever the model. The tool's other figures are of logits in 16 bits, by which nearly
# equal tokens of random weights change places.
EXACT = re.compile(r"imatrix|PPL of the baseline|.* tensor data")
MIX, ROUNDED = "mix-as-Q4_K_M-for-importance+prose", "mix-as-Q4_K_M-for-importance~importance+prose"
SENTENCE = re.compile(r"^quern \w+: (?!.* llama\.cpp warns: )(.*)", re.M)
# Each stage, and what it leaves in the results of a model.
STAGES = {
    "baseline": "baseline/*.h5",
    "imatrix": "imatrix/*.gguf",
    "moments": "moments/*/*.h5",
    "quantize": "quantize/*.json",
    "damage": "mix/damage/*/*/*.h5",
    "mix": f"mix/{MIX}.json",
    "compare": "compare/*/*.json",
    "memory": "memory/*.json",
    "report": "report/*/index.html",
}


def configuration(name: str, model: Path) -> dict:
    """A small sweep with every stage."""
    prose = HOUSE / "resources/demo/text/prose.txt"
    source = {"name": "prose", "path": str(prose), "separator": "\n\n\n"}
    return {
        "models": {name: str(model)},
        "corpora": {"prose": {"sources": [source], "evaluation_characters": 20000}},
        "evaluation": {"corpora": ["prose"], "n_ctx": N_CTX, "windows": WINDOWS},
        "imatrix": {"n_ctx": N_CTX, "windows": 2 * WINDOWS},
        "moments": {"windows": 2 * WINDOWS},
        "mixes": {"windows": 2, "proof_windows": 2},
        "report": {"contexts": [N_CTX]},
        "quantize": [
            {"types": ["Q8_0", "Q4_K_M"], "imatrix": ["prose"]},
            {"types": ["Q4_K_M"], "imatrix": ["prose"], "rounding": ["compensated"]},
            {"mix": {"size": ["as Q4_K_M"]}, "imatrix": ["prose"], "rounding": ["importance"]},
        ],
    }


def made(name: str, model: Path, converter: Path) -> str:
    """Make a model where there is none; why it cannot be made."""
    if model.exists():
        return ""
    line = [converter / "bin/python", HOUSE / "benchmarks/small_models.py", name, model]
    result = subprocess.run(list(map(str, line)), capture_output=True, text=True)
    return result.stderr.strip().rpartition("\n")[2] if result.returncode else ""


def swept(name: str, model: Path, folder: Path) -> dict:
    """Run the sweep; the stages that ended, and what the first that did not says."""
    folder.mkdir(exist_ok=True)
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(configuration(name, model)))
    line = [sys.executable, "-m", "snakemake", "--cores", "1", "--keep-going"]
    line += ["--snakefile", HOUSE / "Snakefile", "--directory", folder, "--configfile", config]
    result = subprocess.run(list(map(str, line)), capture_output=True, text=True)
    (folder / "log").write_text(result.stdout + result.stderr)
    results = folder / "results" / name
    ended = [stage for stage, left in STAGES.items() if any(results.glob(left))]
    said = SENTENCE.findall(result.stderr) if result.returncode else []
    failed = _failed(results)
    return {"stages": ended, "said": (said or failed or [""])[0], "code": result.returncode}


def _failed(results: Path) -> list[str]:
    """Why recipes could not be made."""
    summary = results / "summary/prose.csv"
    frame = pd.read_csv(summary) if summary.exists() else pd.DataFrame()
    return list(frame.failed.dropna()) if "failed" in frame else []


def held(name: str, model: Path, results: Path, tools: Path | None) -> dict:
    """What is so as llama.cpp has it: figures and bytes of the tools, the cache, a mix's size."""
    found = {"KLD": _divergence(results), "size": _size(results)}
    if tools is None:
        return found | {"agreement": "no tools", "cache": "no tools"}
    line = [sys.executable, HOUSE / "benchmarks/agreement.py", "--model", model]
    line += ["--n-ctx", N_CTX, "--windows", WINDOWS, "--threads", 1]
    result = subprocess.run(list(map(str, line)), capture_output=True, text=True)
    rows = [line.split("|") for line in result.stdout.splitlines() if line.startswith("|")][2:]
    rows = [row for row in rows if EXACT.match(row[1].strip())]
    beyond = [row[1].strip() for row in rows if row[-2].strip() == "beyond"]
    agreement = f"{len(rows)} of {len(rows)}" if rows and not beyond else ""
    reason = result.stderr.strip().rpartition("\n")[2]
    agreement = agreement or (f"beyond: {', '.join(beyond)}" if rows else f"failed: {reason}")
    return found | {"agreement": agreement, "cache": _cache(model, results, tools)}


def _divergence(results: Path) -> float | None:
    summary = results / "summary/prose.csv"
    if not summary.exists():
        return None
    frame = pd.read_csv(summary, index_col="recipe")
    return float(frame.kld_mean.get("Q4_K_M+prose", float("nan")))


def _size(results: Path) -> str:
    """Whether the bytes of the mix are those that were reckoned."""
    mix, info = results / f"mix/{MIX}.json", results / f"quantize/{ROUNDED}.json"
    if not (mix.exists() and info.exists()):
        return ""
    reckoned, found = (json.loads(path.read_text())["file_bytes"] for path in (mix, info))
    return "same" if reckoned == found else f"{reckoned} for {found}"


def _cache(model: Path, results: Path, tools: Path) -> str:
    """Whether the cache of a context is what llama.cpp's own tool reserves."""
    path = results / "memory/Q8_0+prose.json"
    if not path.exists():
        return ""
    (entry,) = json.loads(path.read_text())["contexts"]
    text = results.parent / "corpora/prose/evaluation.txt"
    text = next(results.parent.rglob("evaluation.txt"), text)
    out = output_of(
        tools / "llama-perplexity", "-m", model, *common_options(text, N_CTX, 1),
        "-b", N_CTX, "--chunks", 1, "-lv", 4,
    )  # fmt: skip
    sizes = re.findall(r"(?:KV|RS) buffer size = +([\d.]+) MiB", out)
    reserved = sum(map(float, sizes)) * 2**20
    limit = 0.005 * 2**20 * max(1, len(sizes)) + 1
    ours = entry["kv_bytes"]
    return "same" if abs(ours - reserved) <= limit else f"{ours} for {reserved:.0f} bytes"


def swept_and_held(name: str, folder: Path, converter: Path, tools: Path | None) -> dict:
    """All that is found out about an architecture."""
    model = folder / f"{name}.gguf"
    if said := made(name, model, converter):
        return {"stages": [], "said": said}
    found = swept(name, model, folder / name)
    results = folder / name / "results" / name
    return found | held(name, model, results, tools)


def passes(found: dict) -> bool:
    """Whether all stages ended and nothing differs from llama.cpp."""
    checks = [found.get(key, "") for key in ("agreement", "cache", "size")]
    right = all(re.fullmatch(r"same|no tools|(\d+) of \1", check) for check in checks)
    return len(found["stages"]) == len(STAGES) and not found["said"] and right


def table(kept: dict[str, dict]) -> pd.DataFrame:
    """A row for each architecture."""
    rows = []
    for name, found in sorted(kept.items()):
        value, stages = found.get("KLD"), len(found["stages"])
        rows.append(
            {
                "architecture": name,
                "passes": "yes" if passes(found) else "no",
                "stages": f"{stages} of {len(STAGES)}",
                "mean KLD of Q4_K_M": "" if value is None else f"{value:.4f}",
                "llama.cpp's figures": found.get("agreement", ""),
                "cache": found.get("cache", ""),
                "size of the mix": found.get("size", ""),
                "what was said": found["said"].replace("|", "\\|"),
            }
        )
    return pd.DataFrame(rows)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    p.add_argument("folder", type=Path, help="keeps models, sweeps and results")
    p.add_argument("--converter", type=Path, required=True, help="folder of its environment")
    p.add_argument("--names", nargs="*", help="architectures; all that can be made if not given")
    add_option(p)
    arguments = p.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    tools = os.environ.get("LLAMA_CPP_TOOLS")
    names = arguments.names
    if names is None:
        names = _all_names(arguments.converter)
    for name in names:
        path = folder / f"{name}.json"
        if not path.exists():
            found = swept_and_held(
                name, folder, arguments.converter, Path(tools).resolve() if tools else None
            )
            files.write_json(path, found)
            print(name, found, file=sys.stderr, flush=True)
    kept = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    frame = table(kept)
    said = f"{(frame.passes == 'yes').sum()} of {len(frame)} architectures pass."
    show(f"{said}\n\n{markdown(frame)}", "architectures", "architectures", record=arguments.record)


def _all_names(converter: Path) -> list[str]:
    line = [converter / "bin/python", HOUSE / "benchmarks/small_models.py", "all"]
    return output_of(*line).split()


if __name__ == "__main__":
    main()
