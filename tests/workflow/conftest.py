"""A house of one's own: a copy of the workflow that a test may change and run."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from conftest import HOUSE
from models import write_model
from quern import QuernError
from quern.checks import whole
from quern.release.folder import SUMS

CONFIG = {
    "models": {"tiny": "input/tiny.gguf"},
    "corpora": {
        "topics": {
            "sources": [{"name": "topics", "path": "input/text.txt", "separator": "\n%%\n"}],
            "evaluation_characters": 6000,
        }
    },
    "evaluation": {"corpora": ["topics"], "n_ctx": 64, "windows": 6},
    "imatrix": {"n_ctx": 64, "windows": 6},
    "quantize": [{"types": ["Q8_0", "Q2_K"], "imatrix": ["none", "topics"]}],
}

# What follows from every summary; tests of other stages leave it out, since it takes time.
FOLLOWING = {"all", "memory", "answer", "page", "readable"}


class House:
    """A folder with the workflow, its input and its results."""

    def __init__(self, folder: Path):
        self.folder = folder

    def configure(self, config: dict) -> None:
        (self.folder / "config/config.yaml").write_text(yaml.safe_dump(config))

    def snakemake(self, *options: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "snakemake", "--cores", "2", *options],
            cwd=self.folder,
            capture_output=True,
            text=True,
        )

    def run(self, *options: str, report: bool = False) -> Counter:
        """Run; return how many jobs of each rule finished.

        Args:
            report: with what follows from the summaries, which is not counted.
        """
        result = self.snakemake(*options, *([] if report else ["--omit-from", "memory"]))
        assert result.returncode == 0, result.stderr
        started = re.findall(
            r"^(?:local)?(?:rule|checkpoint) (\w+):", result.stderr + result.stdout, re.M
        )
        return Counter(name for name in started if name not in FOLLOWING)

    def would_run(self, *options: str, report: bool = False) -> Counter:
        """Dry-run; return how many jobs of each rule would run."""
        return self.run("-n", *options, report=report)


def build(folder: Path) -> House:
    folder.mkdir(exist_ok=True)
    folders = ("rules", "scripts", "config", "envs", "profiles", "plugins")
    for name in ("Snakefile", "requirements-convert.txt", *folders):
        source = HOUSE / name
        if source.is_dir():
            shutil.copytree(source, folder / name)  # with the kernels that are compiled already
        else:
            shutil.copy(source, folder / name)
    return House(folder)


def require_watched(results: Path) -> set[str]:
    """Every result has a hash, and one bit that is flipped in any of them is named.

    Returns:
        The endings of the results.
    """
    paths = list(whole.found([results]))
    assert [path for path in paths if not whole.check(path)] == []
    for path in paths:
        before = path.read_bytes()
        if not before:  # of a recipe that failed
            continue
        path.write_bytes(flipped(before))
        # What is listed in a file tells of that file.
        with pytest.raises(QuernError, match=re.escape(path.name)):
            for other in paths if path.name == SUMS else [path]:
                whole.check(other)
        path.write_bytes(before)
    return {path.suffix or path.name for path in paths}


def flipped(content: bytes) -> bytes:
    """Another bit in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.fixture(scope="session")
def finished(tmp_path_factory, texts) -> House:
    """A small sweep that has run."""
    house = build(tmp_path_factory.mktemp("house"))
    (house.folder / "input").mkdir()
    write_model(house.folder / "input/tiny.gguf")
    (house.folder / "input/text.txt").write_text("\n%%\n".join(texts[:30]))
    house.configure(CONFIG)
    house.first_jobs = house.run(report=True)
    return house


@pytest.fixture
def house(finished, tmp_path) -> House:
    """A copy of the finished sweep, times and all."""
    return House(shutil.copytree(finished.folder, tmp_path / "house"))
