"""Kills and errors of the disk in every stage: no file is half, and none differs.

Each trial runs one command of a small sweep (n_ctx 128), is hurt, and is run again. Out: a Markdown
table of trials and failures. Exits with 1 if there is a failure.

- kill: SIGKILL to the command and its child after a random time. Then it must finish with the same
  bytes as an undisturbed run.
- error: one write, truncation or fsync below the folder fails with EIO (a library that is loaded
  first does that, compiled here with cc). The command must end with one sentence and without its
  outputs, or with the same bytes, where the error hit its log alone.
"""

import argparse
import hashlib
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

from peer import DEMO_TEXT, HOUSE

from models import write_model

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
    }  # fmt: skip


def command(name: str, arguments: list) -> list[str]:
    line = [sys.executable, HOUSE / "scripts" / f"{name}.py", *arguments, "--log", f"{name}.log"]
    return [str(word) for word in line]


def hashes(folder: Path, names: list[str]) -> dict[str, str]:
    found = {name: folder / name for name in names}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in found.items()
        if path.exists()
    }


def clean(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def kill(line: list[str], folder: Path, after: float) -> None:
    """Kill a command and its child after some seconds, if it still runs."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(line, cwd=folder, start_new_session=True, **quiet)
    time.sleep(after)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main(arguments):
    rng, failures = random.Random(arguments.seed), []
    trials = Counter()
    with tempfile.TemporaryDirectory() as name:
        base, work = Path(name) / "base", Path(name) / "work"
        base.mkdir()
        work.mkdir()
        write_model(base / "m.gguf", n_layer=4)
        (base / "text.txt").write_text(DEMO_TEXT.read_text()[:60_000])
        (Path(name) / "shim.c").write_text(SHIM)
        shim = Path(name) / "shim.so"
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-o", shim, Path(name) / "shim.c", "-ldl"], check=True
        )
        reference, seconds, writes = {}, {}, {}
        for stage, (options, outputs) in stages(base).items():
            environment = os.environ | {
                "LD_PRELOAD": str(shim), "FAULT_FOLDER": str(work),
                "FAULT_LOG": str(Path(name) / "count"),
            }  # fmt: skip
            start = time.monotonic()
            subprocess.run(command(stage, options), cwd=work, env=environment, check=True)
            seconds[stage] = time.monotonic() - start
            writes[stage] = int((Path(name) / "count").read_text())
            reference[stage] = hashes(work, outputs)
            for output in outputs:
                shutil.move(work / output, base / output)
        chosen = stages(base)
        for number in range(arguments.kills + arguments.errors):
            stage = list(chosen)[number % len(chosen)]
            options, outputs = chosen[stage]
            line, what = command(stage, options), "kill" if number < arguments.kills else "error"
            trials[stage, what] += 1
            clean(work)
            if what == "kill":
                for _ in range(rng.choice([1, 1, 2])):
                    kill(line, work, rng.uniform(0.1, 1.1) * seconds[stage])
            else:
                at = rng.randrange(writes[stage])
                environment = os.environ | {
                    "LD_PRELOAD": str(shim), "FAULT_FOLDER": str(work), "FAULT_AT": str(at)
                }  # fmt: skip
                result = subprocess.run(
                    line, cwd=work, env=environment, capture_output=True, text=True
                )
                said = [x for x in result.stderr.splitlines() if x.startswith("quern ")]
                found = hashes(work, outputs)
                wrong = any(reference[stage][n] != h for n, h in found.items())
                lost = result.returncode == 0 and found != reference[stage]
                mute = result.returncode != 0 and (len(said) != 1 or "defect" in said[0])
                if wrong or lost or mute or "Traceback" in result.stderr:
                    failures.append(f"{stage}, error at {at}: {result.stderr[-300:]}")
                    continue
            again = subprocess.run(line, cwd=work, capture_output=True, text=True)
            left = [p.name for p in work.iterdir() if p.name.startswith(".")]
            if again.returncode or hashes(work, outputs) != reference[stage] or left:
                failures.append(f"{stage}, {what}: {left} {again.stderr[-300:]}")
        shutil.rmtree(work)
    print("| stage | kills | errors |\n| --- | ---: | ---: |")
    for stage in chosen:
        print(f"| {stage} | {trials[stage, 'kill']} | {trials[stage, 'error']} |")
    print(f"\n{sum(trials.values())} trials, {len(failures)} failures.")
    print(*failures, sep="\n")
    sys.exit(bool(failures))


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--kills", type=int, default=200)
    p.add_argument("--errors", type=int, default=100)
    p.add_argument("--seed", type=int, default=0)
    main(p.parse_args())
