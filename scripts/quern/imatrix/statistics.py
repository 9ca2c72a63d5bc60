"""Figures of an importance matrix, as `llama-imatrix --show-statistics` defines them.

Source: tools/imatrix/imatrix.cpp, compute_statistics and compute_cossim.
"""

import re

import numpy as np
import pandas as pd

from .matrix import Imatrix

INACTIVE = 1e-5  # importances up to this count as inactive
_LAYER = re.compile(r"blk\.(\d+)\.")


def table(matrix: Imatrix, noise: dict[str, float | None]) -> pd.DataFrame:
    """One row a weight.

    Columns: tensor, layer (-1 outside the blocks), kind; over the importances of the experts that
    were reached: total, mean, minimum, maximum, standard deviation, active (share above 1e-5),
    elements, entropy (bits), normalized entropy, zd (share more than one standard deviation above
    the mean); similarity (cosine between the sums of this layer and of the one before); unreached
    (experts); noise (of the two halves, where it is known).
    """
    return pd.DataFrame(
        [_row(matrix, name, noise.get(name)) for name in sorted(matrix.sums, key=_key)]
    )


def _key(name):
    layer = _LAYER.match(name)
    return (int(layer[1]) if layer else -1, name)


def _row(matrix: Imatrix, name: str, noise: float | None) -> dict:
    sums, counts = matrix.sums[name], matrix.counts[name]
    reached = counts > 0
    values = (sums[reached] / counts[reached, None]).ravel()
    total = values.sum() if values.size else 0.0
    share = values[values > 0] / total if total else np.zeros(0)
    entropy = float(-(share * np.log2(share)).sum())
    deviation = values.std() if values.size else 0.0
    layer = _LAYER.match(name)
    return {
        "tensor": name,
        "layer": int(layer[1]) if layer else -1,
        "kind": name.split(".")[-2] if "." in name else name,
        "total": total,
        "mean": values.mean() if values.size else np.nan,
        "min": values.min(initial=np.inf),
        "max": values.max(initial=-np.inf),
        "std": deviation,
        "active": float((values > INACTIVE).mean()) if values.size else 0.0,
        "elements": values.size,
        "entropy": entropy,
        "normalized_entropy": entropy / np.log2(values.size) if values.size > 1 else 0.0,
        "zd": float((values > values.mean() + deviation).mean()) if deviation > 0 else 0.0,
        "similarity": _similarity(matrix, name),
        "unreached": int((~reached).sum()),
        "noise": np.nan if noise is None else noise,
    }


def _similarity(matrix: Imatrix, name: str) -> float:
    layer = _LAYER.match(name)
    before = _LAYER.sub(lambda m: f"blk.{int(m[1]) - 1}.", name, count=1) if layer else ""
    if before not in matrix.sums or matrix.sums[before].shape != matrix.sums[name].shape:
        return np.nan
    a, b = matrix.sums[name].ravel(), matrix.sums[before].ravel()
    size = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / size) if size else np.nan


def layers(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a layer: total, zd and similarity, averaged over its weights by their elements."""
    blocks = frame[frame.layer >= 0]

    def average(rows):
        share = rows.elements / rows.elements.sum()
        columns = ("total", "zd", "similarity")
        return pd.Series({c: (rows[c].fillna(0) * share).sum() for c in columns})

    columns = ["total", "zd", "similarity", "elements"]
    return blocks.groupby("layer")[columns].apply(average).reset_index()
