"""Compiled kernels are cached, and a change of any source that they are made of is noticed."""

import shutil
import subprocess
import sys

import pytest

from conftest import HOUSE
from quern import fingerprint

FIGURES = """
from quern.rounding.layouts import CODED
from quern.rounding.pictures import similarities, sphere

print(similarities(sphere(8), "exact", CODED["Q4_0"].levels).tobytes().hex())
"""
LOOP = """
from typing import NamedTuple

from numba import njit

from .compiled import EXACT


class Sum(NamedTuple):
    a: int


@njit(**EXACT)
def add(of):
    return of.a + 1


print(add(Sum(1)), sum(add.stats.cache_hits.values()))
"""


@pytest.fixture
def scripts(tmp_path):
    """A copy of the house's scripts, with what was compiled of them."""
    return shutil.copytree(HOUSE / "scripts", tmp_path / "scripts")


def printed_by(code, scripts):
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=scripts
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_the_pictures_show_the_search_as_it_is_now(scripts):
    exact = scripts / "quern/rounding/kernels/exact.py"
    right = exact.read_text()
    spoiled = right.replace("power), best_side, best\n", "power), best_side, best * F(1.1)\n")
    assert spoiled != right
    before = printed_by(FIGURES, scripts)
    assert printed_by(FIGURES, scripts) == before
    exact.write_text(spoiled)
    assert printed_by(FIGURES, scripts) != before


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("rounding/kernels/lanes.py", True),
        ("rounding/kernels/arguments.py", True),
        ("rounding/kernels/vectors.py", True),
        ("compiled.py", True),
        ("rounding/pictures.py", False),
    ],
)
def test_exact_counts_what_it_imports(scripts, file, changes):
    def found():
        fingerprint.code.cache_clear()
        return fingerprint.code(scripts / "quern/rounding/kernels/exact.py", scripts)

    before = found()
    path = scripts / "quern" / file
    path.write_text(path.read_text() + "\nADDED = 1\n")
    assert (found() != before) == changes


def test_a_class_of_arguments_can_be_renamed(scripts):
    loop = scripts / "quern/loop.py"
    loop.write_text(LOOP)
    assert printed_by("import quern.loop", scripts) == "2 0\n"
    assert printed_by("import quern.loop", scripts) == "2 1\n"
    loop.write_text(LOOP.replace("Sum", "Total"))
    assert printed_by("import quern.loop", scripts) == "2 0\n"
