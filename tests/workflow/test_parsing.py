"""Reading the workflow is cheap, since every job and every dry run does it."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from functools import partial

from conftest import HOUSE

from .conftest import CONFIG, build

PROGRAM = """
import contextlib, json, os, sys
before = dict(os.environ)
from snakemake.cli import main
with contextlib.suppress(ImportError):
    import snakemake_executor_plugin_slurm  # loads pandas, wherever it is installed
loaded = set(sys.modules)
sys.argv = ["snakemake", "-n", "--quiet", "all", "--cores", "2", "all"]
try:
    main()
except SystemExit as end:
    assert not end.code
changed = {k: v for k, v in os.environ.items() if before.get(k) != v and k != "PATH"}
print(json.dumps([sorted(set(sys.modules) - loaded), changed]))
"""
HEAVY = {"llama_cpp", "numba", "scipy", "pandas", "h5py", "gguf", "pyarrow", "datasets"}


def test_reading_the_workflow_loads_nothing_heavy_and_changes_no_setting(tmp_path):
    """llama.cpp and numba would also set variables for every job that follows.

    Nothing is there yet: Snakemake itself loads pandas to compare with parameters of earlier runs.
    """
    house = build(tmp_path / "house")
    (house.folder / "input").mkdir()
    for name in ("tiny.gguf", "text.txt"):
        (house.folder / "input" / name).touch()
    house.configure(CONFIG | {"growth": {}})
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=house.folder, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    modules, changed = json.loads(result.stdout.splitlines()[-1])
    assert "quern.growth.decision" in modules  # it was read
    assert not HEAVY & set(modules)
    assert not [name for name in changed if name.startswith(("OMP", "GOMP", "NUMBA", "OPENBLAS"))]


def test_the_commands_that_a_newcomer_types_can_be_planned(tmp_path):
    """With the demo's configuration in place of one's own."""
    house = build(tmp_path / "house")
    (house.folder / "resources").symlink_to(HOUSE / "resources")
    shutil.copy(HOUSE / "config/config.yaml", house.folder / "mine.yaml")
    texts = [(HOUSE / name).read_text() for name in ("README.md", "docs/guide.md")]
    found = re.findall(r"^ {4,}\.venv/bin/snakemake (.*)", "".join(texts), re.M)
    assert len(found) == 5
    for words in map(partial(shlex.split, comments=True), found):
        target = words[:1] if not words[0].startswith("-") else []
        result = house.snakemake("-n", *words[len(target) :], *target)  # the other way round
        assert result.returncode == 0, (words, result.stdout)
        assert "This was a dry-run" in result.stdout, words
