"""Mixes side by side, measured in memory on windows of the pool."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from tqdm import tqdm

from ..measure import statistics
from ..measure.baseline import scored_positions
from .editing import Editor


def measure(
    editor: Editor, mixes: Mapping[str, Mapping[str, str]], windows: np.ndarray, folder: Path
) -> dict[str, dict[str, np.ndarray]]:
    """The `divergence.FIGURES` of each mix on the same windows, each [windows, positions].

    Rounding of activations, which every quantized model adds, is not in them.

    Args:
        mixes: the type of each tensor that is not kept, by name, by the mix's name.
        windows: int32 [n, n_ctx].
        folder: where the baseline's logits lie meanwhile.

    Raises:
        OSError: the disk is full, or fails.
    """
    first, last = scored_positions(windows.shape[1], "half")
    base = np.empty((last - first, editor.model.n_vocab), np.float32)
    steps = len(windows) * (1 + len(mixes))
    found = {}
    with (
        _scratch(folder) as file,
        tqdm(total=steps, unit="window", desc="proof", disable=None) as bar,
    ):
        editor.become({})
        for window in windows:
            file.write(editor.logits(window, first, last))
            bar.update()
        for name, types in mixes.items():
            editor.become(types)
            file.seek(0)
            parts = []
            for window in windows:
                file.readinto(base)
                parts.append(editor.figures(base, window, first, last))
                bar.update()
            found[name] = {key: np.stack([part[key] for part in parts]) for key in parts[0]}
    return found


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[BinaryIO]:
    """A file that nobody else sees; errors of the disk name its folder."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            yield file
    except OSError as error:
        error.filename = error.filename or str(folder)
        raise


def compared(
    found: Mapping[str, statistics.Replicates], one: str, others: Sequence[str], figure: str
) -> dict[str, dict]:
    """How one mix differs from others in a figure: difference, low, high, verdict."""
    rows = {}
    for other in others:
        value, low, high = found[one].difference(found[other], figure)
        said = statistics.verdict(low, high, value, 0.0)
        rows[other] = {"difference": value, "low": low, "high": high, "verdict": said}
    return rows
