"""What the benchmarks share: where things lie, llama.cpp's own tools, and the cost of a command.

The tools must be built from the llama.cpp that llama-cpp-python contains;
docs/measurements/agreement.md says how. The folder that they lie in is named by LLAMA_CPP_TOOLS.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HOUSE = Path(__file__).parent.parent
DEMO = HOUSE / "resources/demo/demo-f16.gguf"
DEMO_TEXT = HOUSE / "resources/demo/text/documents.jsonl"
sys.path[:0] = [str(HOUSE / "scripts"), str(HOUSE / "tests")]


def tools() -> Path:
    """The folder with llama-perplexity, llama-imatrix and llama-quantize; exits where it is not."""
    folder = os.environ.get("LLAMA_CPP_TOOLS")
    if not folder or not (Path(folder) / "llama-perplexity").is_file():
        sys.exit(
            "LLAMA_CPP_TOOLS does not name a folder with llama-perplexity, llama-imatrix and "
            "llama-quantize; docs/measurements/agreement.md says how to build them."
        )
    return Path(folder).resolve()


def common_options(text: Path, n_ctx: int, threads: int) -> list[str]:
    """Options of llama-perplexity and llama-imatrix for the same work that Quern does."""
    return ["-f", str(text), *map(str, ("-c", n_ctx, "-t", threads, "--no-repack", "-ngl", 0))]


def output_of(*line) -> str:
    """Run a command; what it writes. Exits where it fails."""
    line = list(map(str, line))
    result = subprocess.run(line, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(line)} failed:\n{result.stderr[-3000:]}")
    return result.stdout + result.stderr


def timed(*line) -> tuple[float, int]:
    """Run a command; wall-clock seconds and peak resident bytes (children included)."""
    line = list(map(str, line))
    with tempfile.TemporaryFile() as output:
        start = time.monotonic()
        process = subprocess.Popen(line, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        if status:
            output.seek(0)
            sys.exit(f"{' '.join(line)} failed:\n{output.read()[-3000:].decode()}")
    return seconds, usage.ru_maxrss * 1024


def script(name: str, *arguments) -> tuple[float, int]:
    """Run a script of the house; seconds and bytes as of `timed`."""
    return timed(sys.executable, HOUSE / "scripts" / f"{name}.py", *arguments)


def best_time(run, repeat: int) -> float:
    """The least seconds of some runs of a function."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)
