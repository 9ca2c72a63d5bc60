"""Second moments, collected from some layers at a time over windows of a pool.

Products that share an input (q, k and v; gate and up) share its moment. Experts have one each,
where they saw enough tokens. Even and odd windows are kept apart, so that what is fitted to one
half can be judged by the other; by this the number of windows is found as well.
"""

import functools
import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from scipy import linalg
from scipy.linalg.blas import ssyrk
from tqdm import tqdm

from .. import QuernError, blas, hdf5
from ..gguf_files import ModelInfo, require_positions
from ..llama import Model, Product, computed_by
from ..tokens.windows import Tokens

log = logging.getLogger("quern.moments")

HALVES = ("even", "odd")
OUTPUT = "output.weight"  # One that is the embeddings too is read by more than products.
FIRST = 32  # windows after which it is judged for the first time whether more would help
PAYS = 0.02  # of the loss, what doubling the windows must promise
BELIEVED = 0.2  # ρ when it is judged
PROBES = 64  # random vectors
ENOUGH = 2  # tokens for each input of an expert, at least
_LAYER = re.compile(r"blk\.(\d+)\.")


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


class Collector:
    """Sums the outer products of the inputs of products; an input that several share once."""

    def __init__(self):
        self.first = 0  # the number of the window whose index is 0
        self._last: list[tuple] = [(None, ""), (None, "")]
        self.shared: dict[str, str] = {}  # the first product with an input, by each
        self.sums: tuple[dict, dict] = ({}, {})
        self.tokens: tuple[dict, dict] = ({}, {})

    def __call__(self, index: int, product: Product) -> None:
        if product.matrices > 1 and not product.experts:
            return  # matrices of heads: each has inputs of its own
        half = (self.first + index) % 2
        key, owner = self._last[half]
        if product.key == key:
            self.shared.setdefault(product.name, owner)
            return
        self._last[half] = product.key, product.name
        self.shared.setdefault(product.name, product.name)
        inputs = product.inputs()
        if not np.isfinite(inputs).all():
            raise QuernError(f"the inputs of {product.name} are not finite.")
        if not product.experts:
            self._add(half, product.name, inputs.reshape(-1, inputs.shape[-1]))
            return
        ids = product.expert_ids()
        for expert in np.unique(ids).tolist():
            token, slot = np.nonzero(ids == expert)
            rows = inputs[token, slot if inputs.shape[1] > 1 else 0]
            self._add(half, f"{product.name} {expert}", rows)

    def saw_enough(self, key: str) -> bool:
        """Whether the moment of a plain product, or of an expert, is worth keeping."""
        seen = [
            (t[key], len(s[key])) for t, s in zip(self.tokens, self.sums, strict=True) if key in t
        ]
        return " " not in key or sum(t for t, _ in seen) >= ENOUGH * seen[0][1]

    def _add(self, half, key, rows):
        """The upper triangle of a float32 product, to sums in float64."""
        found = ssyrk(1.0, np.ascontiguousarray(rows).T, lower=False)
        sums, tokens = self.sums[half], self.tokens[half]
        if key in sums:
            sums[key] += found
        else:
            sums[key] = found.astype(np.float64)
        tokens[key] = tokens.get(key, 0) + len(rows)

    def excess(self) -> float:
        """`excess` of the inputs, on average; of experts that saw enough."""
        found = []
        for key in filter(self.saw_enough, self.sums[0]):
            if key in self.sums[1]:
                halves = [self._whole(half, key) for half in range(2)]
                found.append(excess(*halves))
        return float(np.mean(found)) if found else 0.0

    def _whole(self, half, key):
        return _symmetric((self.sums[half][key] / self.tokens[half][key]).astype(np.float32))


def _symmetric(upper: np.ndarray) -> np.ndarray:
    """A symmetric matrix from its upper triangle."""
    return np.triu(upper) + np.triu(upper, 1).T


def excess(own: np.ndarray, other: np.ndarray) -> float:
    """How far the loss of what is fitted to a moment is above it with the moment of other tokens.

    That is tr(H⁻¹ H') / tr(H⁻¹ H) − 1, H⁻¹ with H as it is believed. It falls as 1 / tokens: twice
    as many windows lower the loss by half of it.

    Args:
        own, other: float32 [n, n], H and H'.
    """
    diagonal = np.diag(own)
    believed = own.copy()
    np.fill_diagonal(believed, np.maximum(diagonal * (1 + BELIEVED), 1e-6 * diagonal.mean()))
    # The traces by some random vectors, which take n² operations each where the inverse takes n³.
    signs = np.random.default_rng(0).choice(np.float32([-1, 1]), (len(own), PROBES))
    root = np.sqrt(np.diag(believed))
    scaled = believed / root / root[:, None]
    images = linalg.cho_solve(
        linalg.cho_factor(scaled, check_finite=False), signs / root[:, None], check_finite=False
    )
    images /= root[:, None]
    inside, outside = (float(np.sum(images * (h @ signs))) for h in (own, other))
    return outside / inside - 1


def layers_of(info: ModelInfo) -> int:
    """How many layers have weights."""
    found = [int(match[1]) for name in info.matrices if (match := _LAYER.match(name))]
    return max(found, default=-1) + 1


def collect(
    model: Model,
    info: ModelInfo,
    tokens: Tokens,
    output: Path,
    *,
    n_ctx: int = 512,
    windows: int | None = None,
    part: tuple[int, int] = (1, 1),
) -> None:
    """Write the moments of the inputs of some layers' products (HDF5).

    The last layers' come with that of the output matrix, where it is not the embeddings. Windows
    are doubled until doubling them again promises too little: see `excess`. An expert that saw
    fewer than `ENOUGH` tokens for each of its inputs is left out.

    Args:
        windows: how many of the pool at most, from its first on; all where it is None.
        part: (k, n) for the k-th, from 1, of n equal parts of the layers.

    Raises:
        QuernError: the tokens are another model's, the text is too short, an input is not finite.
    """
    tokens.require_tokenizer(info.tokenizer_sha256)
    require_positions(info, n_ctx, model.path)
    count, done, over = tokens.n_windows(n_ctx, windows), 0, None
    begin, end = (k * layers_of(info) // part[1] for k in (part[0] - 1, part[0]))
    layers = range(begin, end)

    def is_wanted(name):
        match = _LAYER.match(name)
        if name == OUTPUT:
            return part[0] == part[1]
        return match is not None and int(match[1]) in layers

    collector = Collector()
    count = count if any(map(is_wanted, info.matrices)) else 0
    with (
        blas.one_thread(),
        tqdm(total=count, unit="window", desc="moments", disable=None) as bar,
    ):
        while done < count:
            stop = min(count, max(FIRST, 2 * done))
            collector.first = done
            some = tokens.windows(n_ctx, range(done, stop))
            for _ in model.activations(some, is_wanted, collector):
                bar.update()
            done, over = stop, collector.excess()
            log.info("%d windows: half of them is %.3f off the other half", done, over)
            if over / 2 < PAYS:
                break
    with hdf5.writing(output) as h5:
        h5.attrs.update(
            model_sha256=info.sha256,
            text_sha256=tokens.text_sha256,
            n_ctx=n_ctx,
            windows=done,
            excess=np.nan if over is None else over,
            computed_by=computed_by(model.gpus),
            shared=json.dumps(collector.shared, sort_keys=True),
        )
        for half, sums, tokens_of in zip(HALVES, collector.sums, collector.tokens, strict=True):
            for name in filter(collector.saw_enough, sorted(sums)):
                data = h5.create_dataset(f"{half}/{name}", data=sums[name].astype(np.float32))
                data.attrs["tokens"] = tokens_of[name]


class Moments:
    """Moments of a model's inputs, in several files, each read when it is asked for.

    Attributes:
        windows, excess: of each file, how many windows it is of, and what `collect` found of them.
        n_ctx: tokens of a window.

    Raises:
        QuernError: a file is damaged, or of other tokens or another model than the first.
    """

    def __init__(self, paths: list[Path], info: ModelInfo):
        self._places: dict[str, tuple[Path, str]] = {}
        self.windows, self.excess = [], []
        made_of = None
        for path in paths:
            with hdf5.reading(path, "file of moments") as h5:
                own = {k: h5.attrs[k] for k in ("model_sha256", "text_sha256", "n_ctx")}
                if made_of not in (None, own):
                    raise QuernError(f"{path} is of other tokens or another model than the others.")
                made_of = own
                self.windows.append(int(h5.attrs["windows"]))
                self.excess.append(float(h5.attrs.get("excess", np.nan)))
                for name, owner in json.loads(h5.attrs["shared"]).items():
                    self._places[name] = path, owner
        self.n_ctx = int(made_of["n_ctx"])
        if made_of["model_sha256"] != info.sha256:
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
            halves = [_whole(h5, half, key) for half in HALVES]
        (even, a), (odd, b) = halves
        if a + b == 0:
            return None
        lacking = np.zeros_like(even if even is not None else odd)
        return Moment(lacking if even is None else even, lacking if odd is None else odd, (a, b))


def _whole(h5, half: str, owner: str) -> tuple[np.ndarray | None, int]:
    """A symmetric matrix from its upper triangle, and its tokens."""
    if owner not in h5.get(half, {}):
        return None, 0
    data = h5[half][owner]
    return _symmetric(data[:]), int(data.attrs["tokens"])
