"""The conda environment names the versions of the lock file; the lock file names no addresses."""

import ast
import subprocess
import sys

import yaml

from conftest import HOUSE


def pins(lines):
    pairs = (line.strip().split("==") for line in lines if "==" in line)
    return {name.lower().replace("-", "_"): version for name, version in pairs}


def test_conda_environment_equals_the_lock_file():
    locked = pins((HOUSE / "requirements.txt").read_text().splitlines())
    environment = yaml.safe_load((HOUSE / "envs/quern.yaml").read_text())
    wanted = pins(environment["dependencies"][-1]["pip"])
    assert wanted and wanted.items() <= locked.items()


def test_the_conda_environment_has_all_that_commands_import():
    environment = yaml.safe_load((HOUSE / "envs/quern.yaml").read_text())
    listed = set(pins(environment["dependencies"][-1]["pip"]))
    imported = set()
    of_another = HOUSE / "scripts/quern/models/converter.py"  # it runs in envs/convert.yaml
    for path in {*(HOUSE / "scripts").rglob("*.py")} - {of_another}:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(node.module.split(".")[0])
    # Modules that are called otherwise than their packages; what numba brings; ours.
    others = {"yaml": "pyyaml", "llama_cpp": "llama_cpp_python", "llvmlite": "numba"}
    others |= {"vl_convert": "vl_convert_python", "markdown_it": "markdown_it_py"}
    needed = {others.get(m, m) for m in imported - set(sys.stdlib_module_names) - {"quern"}}
    assert needed <= listed, needed - listed


def test_the_environment_for_cuda_differs_in_llama_cpp_alone():
    usual, cuda = (
        yaml.safe_load((HOUSE / f"envs/{name}.yaml").read_text())["dependencies"]
        for name in ("quern", "quern-cuda")
    )
    [llama] = set(usual[-1]["pip"]) - set(cuda[-1]["pip"])
    assert llama.startswith("llama_cpp_python==")
    assert set(cuda[-1]["pip"]) < set(usual[-1]["pip"])
    brought = {name.split()[0] for name in cuda[:-1]} - {name.split()[0] for name in usual[:-1]}
    assert brought == {"cuda-nvcc", "cuda-cudart-dev", "libcublas-dev"}
    script = HOUSE / "envs/quern-cuda.post-deploy.sh"
    assert llama in script.read_text()
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0


def test_the_converter_s_environment_equals_its_lock_file():
    locked = pins((HOUSE / "requirements-convert.txt").read_text().splitlines())
    environment = yaml.safe_load((HOUSE / "envs/convert.yaml").read_text())
    wanted = pins(environment["dependencies"][-1]["pip"])
    assert wanted and wanted.items() <= locked.items()
    script = HOUSE / "envs/convert.post-deploy.sh"
    llama = pins((HOUSE / "requirements.txt").read_text().splitlines())["llama_cpp_python"]
    assert f"\nversion={llama}\n" in script.read_text()
    for path in (script, HOUSE / "envs/converter.sh"):
        assert subprocess.run(["bash", "-n", path], check=False).returncode == 0


def test_everything_is_pinned_without_addresses():
    kinds = ("", "-slurm", "-dev", "-convert")
    for name in (f"requirements{kind}.txt" for kind in kinds):
        text = (HOUSE / name).read_text()
        assert "://" not in text
        lines = [line for line in text.splitlines() if line and line[0] not in "#-"]
        assert all("==" in line for line in lines)
