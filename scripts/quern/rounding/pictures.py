"""Pictures of rounding: how near a search comes to a block of three values, in every direction.

A point of the sphere, or of a face of a cube, is a block of three values. Its colour is the cosine
similarity of the block with what rounding makes of it, Σ v·q / √(Σ q²·Σ v²): yellow where it is
good, blue where it is bad. The pictures show the borders between codes, and where a search misses.
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from .. import files
from .kernels import similarity
from .kernels.arguments import FirstScales
from .kernels.codebooks import codebook_of
from .kernels.vectors import LANES
from .layouts import CODED

SEARCHES = {
    "ggml": similarity.GGML,
    "gradient": similarity.GRADIENT,
    "cumulative": similarity.CUMULATIVE,
    "exact": similarity.EXACT,
}
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


def similarities(vectors: np.ndarray, search: str, levels: np.ndarray) -> np.ndarray:
    """The cosine similarity of each vector with what a search makes of it.

    Args:
        vectors: float64 [..., 3].
        search: one of `SEARCHES`; `ggml` is llama.cpp's grid of 19 or 15 scales of one sign.
        levels: float32, increasing, such as those of a `CodedType`.

    Returns:
        float32 [...].
    """
    codebook = codebook_of(levels)
    highest = float(codebook.highest)
    begin = 0.05 if codebook.cells.size else 0.4  # a table has no equal states below half its range
    own = np.linspace(begin * highest, 1.5 * highest, 2 * LANES, dtype=_F)
    grid = FirstScales(np.zeros(0, _F), own, bool(codebook.lowest < 0))
    found = np.empty(vectors.shape[:-1], _F)
    flat = vectors.reshape(-1, 3)
    similarity.similarities(flat, SEARCHES[search], codebook, grid, found.ravel())
    return found


def draw(path: Path, height: int = 1024) -> None:
    """One picture: a row for each set of levels, a column for each search."""
    rows = [
        ("Q4_0", sphere(height), CODED["Q4_0"].levels),
        ("IQ4_NL", sphere(height), CODED["IQ4_NL"].levels),
        ("0 … 15, cube face", cube_face(height), UNSIGNED),
    ]
    figure, axes = plt.subplots(
        len(rows), len(SEARCHES), figsize=(22, 10), layout="constrained", squeeze=False
    )
    for axes_of_row, (name, vectors, levels) in zip(axes, rows, strict=True):
        for axis, search in zip(axes_of_row, SEARCHES, strict=True):
            found = similarities(vectors, search, levels)
            mean = found.mean(dtype=np.float64)
            axis.imshow(found, cmap="viridis")
            axis.set_title(f"{name}, {search}\nmin {found.min():.8f}, mean {mean:.8f}")
            axis.set_axis_off()
    with files.replacing(path) as temporary:
        figure.savefig(temporary, dpi=100)
    plt.close(figure)
