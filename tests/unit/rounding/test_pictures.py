"""The pictures show what is known of each search."""

import numpy as np
import pytest

from conftest import command
from quern.rounding.layouts import CODED
from quern.rounding.pictures import SEARCHES, UNSIGNED, cube_face, similarities, sphere


@pytest.mark.parametrize(
    "kind, search, least, mean",
    [
        ("Q4_0", "ggml", 0.99625194, 0.99935178),
        ("Q4_0", "gradient", 0.99625194, 0.99943539),
        ("Q4_0", "cumulative", 0.99625194, 0.99947599),
        ("Q4_0", "exact", 0.99625194, 0.99947599),
        ("IQ4_NL", "ggml", 0.99767003, 0.99939736),
        ("IQ4_NL", "exact", 0.99840120, 0.99973945),
    ],
)
def test_the_known_values(kind, search, least, mean):
    found = similarities(sphere(1024), search, CODED[kind].levels)
    assert found.shape == (1024, 2048)
    assert found.min() == pytest.approx(least, abs=2e-7)
    # llama.cpp rounds a table's codes once more; the last digit is not ours.
    close = 1e-6 if (kind, search) == ("IQ4_NL", "ggml") else 2e-8
    assert found.mean(dtype=np.float64) == pytest.approx(mean, abs=close)


def test_a_cube_face_with_unsigned_codes():
    found = {r: similarities(cube_face(64), r, UNSIGNED) for r in SEARCHES}
    assert found["exact"][0, 0] == pytest.approx(1)
    for picture in found.values():
        assert (picture <= 1 + 1e-6).all()
        assert (found["exact"] >= picture - 1e-6).all()


def test_the_picture_is_drawn(tmp_path):
    result = command("rounding_pictures", "--height", 32, "--output", tmp_path / "p.png")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "p.png").stat().st_size > 20_000
