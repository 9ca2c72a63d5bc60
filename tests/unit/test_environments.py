"""The conda environment names the versions of the lock file; the lock file names no addresses."""

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


def test_everything_is_pinned_without_addresses():
    for name in ("requirements.txt", "requirements-dev.txt"):
        text = (HOUSE / name).read_text()
        assert "://" not in text
        lines = [line for line in text.splitlines() if line and line[0] not in "#-"]
        assert all("==" in line for line in lines)
