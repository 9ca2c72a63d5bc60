"""Second moments that were collected: one, and all of a model."""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from .. import QuernError, forms, hdf5
from ..gguf_files import ModelInfo

HALVES = ("even", "odd")  # windows


@dataclass(frozen=True)
class Moment:
    """The second moment of an input.

    Attributes:
        even, odd: Σ x xᵀ over the tokens of even and of odd windows, float32 [n, n].
        tokens: how many of each.
    """

    even: np.ndarray
    odd: np.ndarray
    tokens: tuple[int, int]

    def mean(self, which: str = "both") -> np.ndarray:
        """(1/N) Σ x xᵀ over a half, or both, float32 [n, n]."""
        parts = zip(HALVES, (self.even, self.odd), self.tokens, strict=True)
        chosen = [(m, n) for name, m, n in parts if which in (name, "both")]
        count = sum(n for _, n in chosen)
        total = chosen[0][0] if len(chosen) == 1 else chosen[0][0] + chosen[1][0]
        return total / np.float32(max(count, 1))


class Moments:
    """Moments of a model's inputs, in several files, each read when it is asked for.

    Attributes:
        windows, excess: of each file, how many windows it is of, and what `collect` found of them.
        n_ctx: tokens of a window.

    Raises:
        QuernError: a file is damaged, or of other tokens or another model than the first. `of`
            raises it where a moment lacks a half or is none.
    """

    def __init__(self, paths: list[Path], info: ModelInfo):
        self._places: dict[str, tuple[Path, str]] = {}
        self._matrices, self._windows = info.matrices, {}
        self.windows, self.excess = [], []
        origin = None
        for path in paths:
            with hdf5.reading(path, "file of moments") as h5:
                own = {k: h5.attrs[k] for k in ("model_sha256", "text_sha256", "n_ctx")}
                if origin not in (None, own):
                    raise QuernError(f"{path} is of other tokens or another model than the others.")
                origin = own
                self.windows.append(int(h5.attrs["windows"]))
                self._windows[path] = self.windows[-1]
                self.excess.append(float(h5.attrs.get("excess", np.nan)))
                for name, owner in json.loads(h5.attrs["shared"]).items():
                    self._places[name] = path, owner
        self.n_ctx = int(origin["n_ctx"])
        if origin["model_sha256"] != info.sha256:
            raise QuernError(f"{paths[0]} is of another model; delete it and run again.")
        self._read = functools.lru_cache(maxsize=1)(self._moment)

    def owner(self, name: str) -> str:
        """The first product with the inputs of this one; empty where they have no moment."""
        return self._places.get(name, ("", ""))[1]

    def of(self, name: str, matrix: int = 0) -> Moment | None:
        """The moment of the inputs of a weight, or of one of its experts; None without one."""
        return self._read(*self._places[name], matrix) if name in self._places else None

    def _moment(self, path: Path, owner: str, matrix: int) -> Moment | None:
        with h5py.File(path, locking=False) as h5:
            own = f"{owner} {matrix}"
            key = own if any(own in h5.get(half, {}) for half in HALVES) else owner
            halves = [_sum(h5, half, key) for half in HALVES]
        (even, a), (odd, b) = halves
        columns, matrices = self._matrices.get(owner, (None, 0))
        if even is odd is None and matrices != 1:
            return None  # an expert that saw too little
        seen = self._windows[path], self._windows[path] // 2
        for name, windows, (moment, tokens) in zip(HALVES, seen, halves, strict=True):
            may_lack = matrices != 1 or not windows
            if said := _wrong(moment, tokens, columns, may_lack=may_lack):
                raise forms.impossible(path, f"{name} windows' moment of {key}: {said}")
        lacking = np.zeros_like(even if even is not None else odd)
        return Moment(lacking if even is None else even, lacking if odd is None else odd, (a, b))


def _wrong(moment: np.ndarray | None, tokens: int, columns: int | None, *, may_lack: bool) -> str:
    """Why an array is no sum of x xᵀ over tokens; empty where it may be one."""
    if moment is None:
        return "" if may_lack else "it is not there"
    if tokens < 1:
        return f"it is of {tokens} tokens"
    if moment.ndim != 2 or {*moment.shape} != {columns or len(moment)}:
        return f"its shape is {moment.shape}"
    if not np.isfinite(moment).all():
        return "it is not finite"
    if (np.diag(moment) < 0).any():
        return "a square is negative"
    return ""


def _sum(h5, half: str, owner: str) -> tuple[np.ndarray | None, int]:
    """The sum over a half, and its tokens."""
    if owner not in h5.get(half, {}):
        return None, 0
    data = h5[half][owner]
    return data[:], int(data.attrs["tokens"])
