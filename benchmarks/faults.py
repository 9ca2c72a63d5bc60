"""Kills, errors of the disk and damaged inputs in every stage: no file is half, and none differs.

Each trial runs one command of a small sweep (n_ctx 128) and hurts it. Out: a Markdown table of
trials, and the failures. Exits with 1 if there is a failure.

- kill: SIGKILL to the command and its child after a random time. Then it must finish with the same
  bytes as an undisturbed run.
- error: one write, truncation or fsync below the folder fails with EIO (a library that is loaded
  first does that, compiled here with cc). The command must end with one sentence and without its
  outputs, or with the same bytes, where the error hit its log alone.
- mutant: one of its inputs is damaged. The command must end within a minute with one sentence, or
  with the same bytes, where the damage hit what nothing uses. Of a model the header is damaged, and
  the result may be another model's, since weights and names have no values that are impossible,
  and llama.cpp may crash, which the sentence says.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import record
from peer import DEMO_TEXT, HOUSE

from models import write_model
from quern import files

KINDS = ("kills", "errors", "mutants")
MODELS = ("m.gguf", "q.gguf")
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int count;

static int hurt(int fd) {
    char link[64], path[4096];
    const char *folder = getenv("FAULT_FOLDER"), *at = getenv("FAULT_AT");
    const char *log = getenv("FAULT_LOG");
    if (!folder) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    if (strncmp(path, folder, strlen(folder))) return 0;
    int now = __sync_fetch_and_add(&count, 1);
    if (log) { FILE *f = fopen(log, "w"); if (f) { fprintf(f, "%d", now + 1); fclose(f); } }
    if (at && now == atoi(at)) { errno = EIO; return 1; }
    return 0;
}

#define WRAP(name, args, call) \
    ssize_t name args { static ssize_t (*real) args; \
        if (!real) real = dlsym(RTLD_NEXT, #name); \
        return hurt(fd) ? -1 : real call; }
WRAP(write, (int fd, const void *b, size_t n), (fd, b, n))
WRAP(pwrite, (int fd, const void *b, size_t n, off_t o), (fd, b, n, o))
WRAP(pwrite64, (int fd, const void *b, size_t n, off64_t o), (fd, b, n, o))
#undef WRAP
#define WRAP(name, args, call) \
    int name args { static int (*real) args; \
        if (!real) real = dlsym(RTLD_NEXT, #name); \
        return hurt(fd) ? -1 : real call; }
WRAP(ftruncate, (int fd, off_t n), (fd, n))
WRAP(ftruncate64, (int fd, off64_t n), (fd, n))
WRAP(fsync, (int fd), (fd))
"""


def stages(folder: Path) -> dict[str, tuple[list, list[str]]]:
    """The commands of a small sweep in order, and what each writes."""
    model, text = folder / "m.gguf", folder / "text.txt"
    known = ["--model", model, "--info", folder / "m.json"]
    tokens = ["--tokens", folder / "t.h5", "--n-ctx", 128]
    against = ["--baseline", folder / "b.h5", "--baseline-model", model]
    against += ["--baseline-info", folder / "m.json"]
    quantized = ["--model", folder / "q.gguf", "--info", folder / "q.json"]
    made = ["--output", "q.gguf", "--output-info", "q.json"]
    compared = ["--output", "c.h5", "--windows", "c.csv", "--summary", "c.json", "--text", "c.txt"]
    step = ["--step", 0, "--report", folder / "i.json", "--types", "Q4_K_M"]
    weighed = ["--imatrix", folder / "i.gguf"]
    mixed = [
        "--damage",
        folder / "damage.h5",
        folder / "damage1.h5",
        "--errors",
        folder / "errors.json",
    ]
    mixed += ["--size", "as Q4_K_M", "--proof-windows", 2]
    reround = ["--baseline", model, "--baseline-info", folder / "m.json"]
    reround += ["--quantized", folder / "q.gguf", "--info", folder / "q.json", *weighed]
    entry = {"name": "Q4_K_M", "type": "Q4_K_M", "imatrix": "i", "rounding": "ggml"}
    read = {"info": "q.json", "compare": "c.json", "positions": "c.h5"}
    entry |= {key: str(folder / name) for key, name in read.items()} | {"foreign": False}
    recipes = ["--recipes", json.dumps([entry])]
    summarized = ["--title", "T", "--csv", "sum.csv", "--pairs", "pairs.csv"]
    summarized += ["--markdown", "sum.md", "--picture", "sum.png"]
    tables = ["--table", folder / "sum.csv", "--memory", folder / "memory.json"]
    asked = ["--model", "m", "--corpus", "c", "--title", "T", *tables, "--pairs"]
    asked += [folder / "pairs.csv", "--budgets", 10_000_000]
    shown = [*tables, "--answer", folder / "answer.json", "--info", folder / "m.json"]
    shown += ["--baseline", folder / "b.h5", "--baseline-model", model]
    shard = ["--shards", folder / "s.h5", "--info", folder / "m.json"]
    return {
        "model": (["--model", model, "--output", "m.json"], ["m.json"]),
        "tokens": (
            [*known, "--text", text, "--output", "t.h5", "--facts", "t.json"],
            ["t.h5", "t.json"],
        ),
        "baseline": (
            [*known, *tokens, "--windows", 24, "--output", "b.h5", "--facts", "b.json"],
            ["b.h5", "b.json"],
        ),
        "imatrix_shard": ([*known, *tokens, "--to", 24, "--output", "s.h5"], ["s.h5"]),
        "imatrix": ([*shard, "--output", "i.gguf", "--report", "i.json"], ["i.gguf", "i.json"]),
        "quantize": (
            [*known, "--type", "Q4_K_M", "--imatrix", folder / "i.gguf", *made],
            ["q.gguf", "q.json"],
        ),
        "compare": (
            [*quantized, *against, *compared],
            ["c.h5", "c.csv", "c.json", "c.txt"],
        ),
        "grow_step": (
            [*step, "--positions", folder / "c.h5", "--output", "g.h5", "--facts", "g.json"],
            ["g.h5", "g.json"],
        ),
        "memory": (
            [*quantized, "--name", "Q4_K_M", "--contexts", 128, "--output", "memory.json"],
            ["memory.json"],
        ),
        "moments": ([*known, *tokens, "--windows", 24, "--output", "moments.h5"], ["moments.h5"]),
        "mix_errors": ([*known, *weighed, "--output", "errors.json"], ["errors.json"]),
        "damage": ([*known, *weighed, *tokens, "--output", "damage.h5"], ["damage.h5"]),
        "damage again": (
            [*known, *weighed, *tokens, "--turn", 1, "--output", "damage1.h5"],
            ["damage1.h5"],
        ),
        "mix": (
            [*known, *weighed, *tokens, *mixed, "--output", "mix.json", "--type-file", "mix.txt"],
            ["mix.json", "mix.txt"],
        ),
        "reround": (
            [*reround, "--output", "r.gguf", "--output-info", "r.json"],
            ["r.gguf", "r.json"],
        ),
        "summary": ([*recipes, *summarized], ["sum.csv", "pairs.csv", "sum.md", "sum.png"]),
        "answer": (
            [*asked, "--output", "answer.json", "--markdown", "answer.md"],
            ["answer.json", "answer.md"],
        ),
        "page": ([*recipes, *shown, "--output", "index.html"], ["index.html"]),
    }  # fmt: skip


def command(name: str, arguments: list) -> list[str]:
    line = [sys.executable, HOUSE / "scripts" / f"{name.split()[0]}.py", *arguments, "--log", "log"]
    return [str(word) for word in line]


def hashes(folder: Path, names: list[str]) -> dict[str, str]:
    found = {name: folder / name for name in names}
    return {name: files.sha256(path) for name, path in found.items() if path.exists()}


class Sweep:
    """The commands of a small sweep, and what each gives when nobody disturbs it.

    Attributes:
        base, work: folders of inputs, and of what a trial writes.
        reference: hashes of each stage's outputs; `seconds` and `writes` that it takes.
    """

    def __init__(self, folder: Path, rng: random.Random):
        self.base, self.work, self._rng = folder / "base", folder / "work", rng
        self.base.mkdir()
        self.work.mkdir()
        write_model(self.base / "m.gguf", n_layer=4)
        (self.base / "text.txt").write_text(DEMO_TEXT.read_text()[:60_000])
        (folder / "shim.c").write_text(SHIM)
        self._shim = str(folder / "shim.so")
        build = ["cc", "-shared", "-fPIC", "-o", self._shim, folder / "shim.c", "-ldl"]
        subprocess.run(build, check=True)
        self.reference, self._seconds, self._writes = {}, {}, {}
        for stage, (options, outputs) in stages(self.base).items():
            start, count = time.monotonic(), folder / "count"
            result = self._run(command(stage, options), FAULT_LOG=str(count))
            if result.returncode:
                raise SystemExit(f"{stage} fails undisturbed: {result.stderr}")
            self._seconds[stage] = time.monotonic() - start
            self._writes[stage] = int(count.read_text())
            self.reference[stage] = hashes(self.work, outputs)
            for output in outputs:
                shutil.move(self.work / output, self.base / output)

    def _run(self, line: list[str], **environment: str) -> subprocess.CompletedProcess:
        if environment:
            environment |= {"LD_PRELOAD": self._shim, "FAULT_FOLDER": str(self.work)}
        return subprocess.run(
            line,
            cwd=self.work,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
        )

    def _found(self, stage: str) -> dict[str, str]:
        return hashes(self.work, stages(self.base)[stage][1])

    def _finishes(self, stage: str, line: list[str]) -> str:
        """Run a command undisturbed; what is wrong with it, or nothing."""
        again = self._run(line)
        hidden = (path for path in self.work.iterdir() if path.name.startswith("."))
        left = [path.name for path in hidden if path.suffix != ".sha256"]
        wrong = again.returncode or self._found(stage) != self.reference[stage] or left
        return f"left {left}: {again.stderr[-300:]}" if wrong else ""

    def kill(self, stage: str) -> str:
        """Kill it and its child after a random time, once or twice, and let it finish."""
        line = command(stage, stages(self.base)[stage][0])
        for _ in range(self._rng.choice([1, 1, 2])):
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            process = subprocess.Popen(line, cwd=self.work, start_new_session=True, **quiet)
            time.sleep(self._rng.uniform(0.1, 1.1) * self._seconds[stage])
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return self._finishes(stage, line)

    def error(self, stage: str) -> str:
        """Let one write fail, and let it finish afterwards."""
        line, at = command(stage, stages(self.base)[stage][0]), self._writes[stage]
        at = self._rng.randrange(at)
        result = self._run(line, FAULT_AT=str(at))
        return self._wrong(stage, result, f"at {at}") or self._finishes(stage, line)

    def mutant(self, stage: str) -> str:
        """Run it with one of its inputs damaged."""
        options = stages(self.base)[stage][0]
        inputs = [o for o in options if isinstance(o, Path) and o.suffix != ".txt"]
        victim = self._rng.choice(inputs)
        damaged = self.work / f"damaged-{victim.name}"
        how = damage(self._rng, victim, damaged)
        line = command(stage, [damaged if o == victim else o for o in options])
        try:
            result = self._run(line)
        except subprocess.TimeoutExpired:
            return f"{victim.name}, {how}: still running after a minute"
        return self._wrong(stage, result, f"{victim.name}, {how}", victim.name in MODELS)

    def _wrong(self, stage, result, what, other_results=False) -> str:
        """What is wrong with a command that was hurt: silence, a defect, another result."""
        said = [x for x in result.stderr.splitlines() if x.startswith("quern ")]
        found, reference = self._found(stage), self.reference[stage]
        differs = any(reference[name] != sha256 for name, sha256 in found.items())
        lost = result.returncode == 0 and found.keys() != reference.keys()
        mute = result.returncode != 0 and (len(said) != 1 or "defect" in said[0])
        crashed = not other_results and "crashed" in " ".join(said)
        if (differs and not other_results) or lost or mute or crashed:
            return f"{what}: exit {result.returncode}, differs {differs}: {result.stderr[-300:]}"
        return ""


def damage(rng: random.Random, path: Path, output: Path) -> str:
    """Write a damaged copy of a file; what was done to it."""
    content = bytearray(path.read_bytes())
    # Half of all damage goes to the beginning, where the structure is; all, for GGUF.
    end = min(len(content), 8192) if path.suffix == ".gguf" or rng.random() < 0.5 else len(content)
    at, size = rng.randrange(end), rng.randint(1, 64)
    how = rng.choice(["bit", "bytes", "zeros", "ones", "cut", "repeat", "swap", "number"])
    if how == "bit":
        content[at] ^= 1 << rng.randrange(8)
    elif how == "bytes":
        content[at : at + size] = rng.randbytes(len(content[at : at + size]))
    elif how in ("zeros", "ones"):
        content[at : at + size] = bytes([255 * (how == "ones")]) * len(content[at : at + size])
    elif how == "cut":
        del content[at:]
    elif how == "repeat":
        content[at:at] = content[at : at + size]
    elif how == "swap":
        other = rng.randrange(end)
        content[at], content[other] = content[other], content[at]
    else:  # a digit of text, or a byte
        digits = [i for i in range(end) if chr(content[i]) in "0123456789"]
        content[rng.choice(digits or [at])] = rng.choice(b"0123456789-e")
    output.write_bytes(content)
    return f"{how} at {at}"


def main(arguments):
    rng, failures, trials = random.Random(arguments.seed), [], Counter()
    with tempfile.TemporaryDirectory() as name:
        sweep = Sweep(Path(name), rng)
        for kind in KINDS:
            for number in range(getattr(arguments, kind)):
                stage = list(sweep.reference)[number % len(sweep.reference)]
                shutil.rmtree(sweep.work)
                sweep.work.mkdir()
                trials[stage, kind] += 1
                if wrong := getattr(sweep, kind.removesuffix("s"))(stage):
                    failures.append(f"{stage}, {kind}: {wrong}")
                    print(failures[-1], file=sys.stderr)
        lines = [f"| stage | {' | '.join(KINDS)} |", f"| --- |{' ---: |' * len(KINDS)}"]
        for stage in sweep.reference:
            counts = (str(trials[stage, kind]) for kind in KINDS)
            lines.append(f"| {stage} | {' | '.join(counts)} |")
    lines.append(f"\n{sum(trials.values())} trials, {len(failures)} failures.")
    record.show("\n".join(lines), "faults", "faults", record=arguments.record)
    sys.exit(bool(failures))


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--kills", type=int, default=200)
    p.add_argument("--errors", type=int, default=100)
    p.add_argument("--mutants", type=int, default=1000)
    p.add_argument("--seed", type=int, default=0)
    record.add_option(p)
    main(p.parse_args())
