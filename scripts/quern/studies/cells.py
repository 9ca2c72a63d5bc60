"""A study's comparisons as they were measured, over the tokens that several have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from .. import QuernError, files
from ..gguf_files import ModelInfo
from ..measure import comparison, statistics, summaries
from ..measure.window_store import WindowStore
from ..tokens.windows import read_tokens
from .paired import Measured


@dataclass(frozen=True)
class Calibrated:
    """The tokens of a calibration, and what an imatrix took of them."""

    tokens: Path
    n_ctx: int
    windows: int

    @cached_property
    def entropy(self) -> float:
        """Of single tokens, in bits a token: -Σ p log2 p over how often each occurs."""
        tokens = read_tokens(self.tokens)
        numbers = range(tokens.n_windows(self.n_ctx, self.windows))
        counts = np.bincount(tokens.windows(self.n_ctx, numbers)[:][:, 1:].ravel())  # no BOS
        shares = counts[counts > 0] / counts.sum()
        return float(-(shares * np.log2(shares)).sum())


@dataclass(frozen=True)
class ComparedCell:
    """A cell of a study that was measured.

    Attributes:
        name: the recipe's.
        labels: what tables tell it by.
        result, positions: the comparison's summary, and its figures per position (HDF5).
    """

    name: str
    labels: dict
    result: dict
    positions: Path

    @property
    def n_ctx(self) -> int:
        """Tokens of a window."""
        return int(self.result["provenance"]["n_ctx"])

    @property
    def noise(self) -> dict[str, float]:
        """How far its figures would move in other graphs, 95 % bounds."""
        return self.result["noise"]["figures"]


@dataclass(frozen=True)
class Study:
    """A study that was measured.

    Attributes:
        settings: its section of the configuration, and what its plan added.
        texts: of calibrations, by what tables call them, where tables describe them.
        imatrices: what is known of the imatrices, by the calibrations' names.
        info: the model's.
    """

    title: str
    settings: dict
    cells: list[ComparedCell]
    texts: dict[str, Calibrated]
    imatrices: dict[str, dict]
    info: ModelInfo

    @classmethod
    def read(cls, plan: dict, imatrices: list[Path], info: Path, title: str) -> "Study":
        """A study as the workflow describes it.

        Args:
            plan: `settings`; `cells`, each with `recipe`, `labels` and the paths `info`, `compare`
                and `positions`; `texts`, by label, each with the path `tokens`, `n_ctx` and
                `windows`.
            imatrices, info: JSON of the imatrices and of the model.

        Raises:
            QuernError: it lacks one of them, a file is missing, damaged or of another cell, or a
                recipe could not be made.
        """
        try:
            for cell in plan["cells"]:
                if reason := files.failure(cell["compare"]):
                    raise QuernError(f"{cell['recipe']} could not be made: {reason}")
            cells = [
                ComparedCell(
                    cell["recipe"],
                    cell["labels"],
                    summaries.read(
                        cell["compare"],
                        cell["positions"],
                        quantized_sha256=files.read_json(cell["info"])["sha256"],
                    ),
                    Path(cell["positions"]),
                )
                for cell in plan["cells"]
            ]
            texts = {
                label: Calibrated(Path(entry["tokens"]), entry["n_ctx"], entry["windows"])
                for label, entry in plan["texts"].items()
            }
            settings = plan["settings"]
        except (KeyError, TypeError) as error:
            raise QuernError(f"--study is not the description of a study ({error!r}).") from None
        reports = {path.stem: files.read_json(path) for path in imatrices}
        return cls(title, settings, cells, texts, reports, ModelInfo.read(info))

    def where(self, **labels) -> list[ComparedCell]:
        """The cells with these labels."""
        return [cell for cell in self.cells if labels.items() <= cell.labels.items()]


def on_common_tokens(cells: Sequence[ComparedCell]) -> list[Measured]:
    """The cells' figures over the positions of the text that all of them scored.

    The stream of tokens is cut into blocks of the longest window. Position t of it is in window
    t // n at t % n, whatever the size n of the windows, so each cell gives arrays [blocks, longest]
    of the same tokens. Blocks are what is resampled.

    Raises:
        QuernError: they are not of the same text, a size does not divide the longest, or there are
            fewer than two blocks.
    """
    longest = max(cell.n_ctx for cell in cells)
    texts = {cell.result["provenance"]["text_sha256"] for cell in cells}
    if len(texts) > 1 or any(longest % cell.n_ctx for cell in cells):
        names = ", ".join(dict.fromkeys(cell.name for cell in cells))
        raise QuernError(f"{names} were not compared on the same text, or in sizes that fit.")
    laid = [_in_blocks(cell, longest) for cell in cells]
    n_blocks = min(len(mask) for mask, _ in laid)
    common = np.logical_and.reduce([mask[:n_blocks] for mask, _ in laid])
    if common.any(1).sum() < 2:
        raise QuernError(
            f"{cells[0].name} has fewer than two blocks of {longest} tokens in common with the "
            "others; give the study more tokens."
        )
    return [
        Measured.of(
            statistics.Sample({name: rows[:n_blocks] for name, rows in figures.items()}, common),
            cell.noise,
        )
        for cell, (_, figures) in zip(cells, laid, strict=True)
    ]


def _in_blocks(cell: ComparedCell, longest: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Which positions of each block were scored, bool [blocks, longest], and their figures.

    A block that lacks a window counts as not scored.
    """
    with WindowStore.open(cell.positions) as store:
        done, found = store.done, comparison.read_figures(store)
        first = int(store.attributes["first_position"])
    n = cell.n_ctx
    windows = len(done) // (longest // n) * (longest // n)  # that fill whole blocks
    numbers = np.flatnonzero(done)
    kept = numbers < windows

    def laid_out(rows):
        whole = np.zeros((windows, n), rows.dtype)
        whole[numbers[kept], first : first + rows.shape[1]] = rows[kept]
        return whole.reshape(-1, longest)

    scored = laid_out(np.ones(found["kld"].shape, bool))
    scored &= done[:windows].reshape(-1, longest // n).all(1)[:, None]
    return scored, {name: laid_out(rows) for name, rows in found.items()}
