"""Reading the workflow is cheap, since every job and every dry run does it."""

import json
import subprocess
import sys

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
