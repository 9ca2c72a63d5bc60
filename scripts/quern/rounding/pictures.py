"""Pictures of rounding: how well blocks of three values are met, in every direction.

A point of the sphere, or of a face of a cube, is a block of three values. Its colour is the cosine
similarity of the block with what rounding makes of it, Σ v·q / √(Σ q²·Σ v²), yellow where it is
good and blue where it is bad; so the borders between codes, and a search that misses, show.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from .. import files
from .kernels import similarity
from .kernels.lanes import LANES, cells_of
from .layouts import LAYOUTS

ROUNDINGS = ("ggml", "gradient", "cumulative", "exact")
UNSIGNED = np.arange(16, dtype=np.float32)
_F = np.float32


def sphere(height: int) -> np.ndarray:
    """Vectors of the equirectangular projection, float64 [height, 2 · height, 3]."""
    theta = np.linspace(0, 2 * np.pi, 2 * height, endpoint=False)[None]
    phi = np.linspace(0, np.pi, height)[:, None]
    parts = np.sin(phi) * np.cos(theta), np.sin(phi) * np.sin(theta), np.cos(phi) + 0 * theta
    return np.stack(parts, axis=-1)


def cube_face(size: int) -> np.ndarray:
    """Vectors (x, y, 1) for x and y from 0 to 1, float64 [size, size, 3]."""
    x = np.linspace(0, 1, size)
    return np.stack([*np.meshgrid(x, x), np.ones((size, size))], axis=-1)


def similarities(vectors: np.ndarray, rounding: str, levels: np.ndarray) -> np.ndarray:
    """The cosine similarity of each vector with what a search makes of it.

    Args:
        vectors: float64 [..., 3].
        rounding: one of `ROUNDINGS`; `ggml` is llama.cpp's grid of 19 or 15 scales of one sign.
        levels: float32, increasing, such as those of a type's `Layout`.

    Returns:
        float32 [...].
    """
    table = bool((np.diff(levels) != 1).any())
    cells = cells_of(levels) if table else np.zeros(0, _F)
    lowest, highest = _F(levels[0]), _F(levels[-1])
    end = 1.5 * float(highest)
    begin = 0.05 if table else 0.4  # a table has no equal states below half its range
    own = np.linspace(begin * float(highest), end, 2 * LANES, dtype=_F)
    grid = np.zeros(0, _F), own, bool(lowest < 0)
    found = np.empty(vectors.shape[:-1], _F)
    similarity.similarities(
        vectors.reshape(-1, 3), ROUNDINGS.index(rounding), levels.astype(_F),
        (lowest, highest, cells), True, grid, found.ravel(),
    )  # fmt: skip
    return found


def draw(path: Path, height: int = 1024) -> None:
    """One picture: a row for each set of levels, a column for each rounding."""
    rows = [
        ("Q4_0", sphere(height), LAYOUTS["Q4_0"].levels),
        ("IQ4_NL", sphere(height), LAYOUTS["IQ4_NL"].levels),
        ("0 … 15, cube face", cube_face(height), UNSIGNED),
    ]
    figure, axes = plt.subplots(
        len(rows), len(ROUNDINGS), figsize=(22, 10), layout="constrained", squeeze=False
    )
    for of_row, (name, vectors, levels) in zip(axes, rows, strict=True):
        for side, rounding in zip(of_row, ROUNDINGS, strict=True):
            found = similarities(vectors, rounding, levels)
            mean = found.mean(dtype=np.float64)
            side.imshow(found, cmap="viridis")
            side.set_title(f"{name}, {rounding}\nmin {found.min():.8f}, mean {mean:.8f}")
            side.set_axis_off()
    with files.replacing(path) as temporary:
        figure.savefig(temporary, dpi=100)
    plt.close(figure)
