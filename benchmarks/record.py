"""What a benchmark measured, in its page of docs/measurements, with where it was measured.

A page marks the place with a pair of comments that name the benchmark and, where it has several
tables, the table:

    <!-- benchmark instrument growth -->
    <!-- end of instrument growth -->

With --record, a benchmark replaces what stands between them by a line that names commit, day and
machine, and its table.
"""

import argparse
import datetime
import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from peer import HOUSE

from quern import llama

PAGES = HOUSE / "docs/measurements"


def add_option(p: argparse.ArgumentParser) -> None:
    """The option that `show` is told of."""
    p.add_argument("--record", action="store_true", help="write what is printed into its page, too")


def markdown(frame: pd.DataFrame) -> str:
    """A table as it is printed and kept."""
    return frame.to_markdown(index=False, disable_numparse=True)


def show(text: str, page: str, block: str, *, record: bool) -> None:
    """Print a table; with `record`, write it into its block of a page as well."""
    print(text)
    if record:
        path = PAGES / f"{page}.md"
        path.write_text(replaced(path.read_text(), block, f"{origin()}\n\n{text.strip()}"))


def keep(frame: pd.DataFrame, name: str, *, record: bool) -> None:
    """With `record`, write all rows of a long table as a CSV file beside its page."""
    if record:
        frame.to_csv(PAGES / f"{name}.csv", index=False)


def replaced(page: str, block: str, text: str) -> str:
    """A page with another text in a block.

    Raises:
        LookupError: the page has no such block.
    """
    begin, end = f"<!-- benchmark {block} -->", f"<!-- end of {block} -->"
    pattern = re.compile(f"(?<={re.escape(begin)}).*?(?={re.escape(end)})", re.S)
    page, count = pattern.subn(lambda _: f"\n{text}\n", page)
    if count != 1:
        raise LookupError(f"The page has {count} blocks from {begin} to {end}, not one.")
    return page


def origin() -> str:
    """Commit, day and machine of this run, in a line."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("llama-cpp-python", "numpy"))
    day = datetime.date.today().isoformat()
    return f"Commit {commit()}, {day}. Machine: {machine()}; {packages}."


def commit() -> str:
    """The commit of the code; documents count for nothing, since the first table changes them."""
    short = _git("rev-parse", "--short=7", "HEAD")
    dirty = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs")
    return f"`{short}` with uncommitted changes" if dirty else f"`{short}`"


def machine() -> str:
    """Processor, cores that this process may use, and the GPUs that llama.cpp sees."""
    cores = len(os.sched_getaffinity(0))
    return f"{processor()}, {cores} cores, {', '.join(llama.devices()) or 'no GPU'}"


def processor() -> str:
    """The processor's model, as Linux names it."""
    cpus = Path("/proc/cpuinfo")
    found = cpus.is_file() and re.search(r"^model name\s*:\s*(.+)$", cpus.read_text(), re.M)
    return found[1].strip() if found else platform.processor() or platform.machine()


def _git(*arguments: str) -> str:
    line = ["git", "-C", str(HOUSE), *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()
