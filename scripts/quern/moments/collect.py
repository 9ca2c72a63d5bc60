"""Second moments, collected from some layers at a time over windows of a pool.

Products that share an input (q, k and v; gate and up) share its moment. Experts have one each,
where they saw enough tokens. Even and odd windows are kept apart, so that what is fitted to one
half can be judged by the other; by this the number of windows is found as well.
"""

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .. import QuernError, blas, hdf5
from ..gguf_files import ModelInfo
from ..llama import OUTPUT_WEIGHTS, Model, Product, computed_by
from ..tokens.work import Work, share
from .excess import excess
from .stored import HALVES

log = logging.getLogger("quern.moments")

FIRST = 32  # windows after which it is judged for the first time whether more would help
PAYS = 0.02  # of the loss, what doubling the windows must promise
JUDGED = 16  # inputs, at most, by which it is judged
ENOUGH = 2  # tokens for each input of an expert, at least
_LAYER = re.compile(r"blk\.(\d+)\.")


class OuterProducts:
    """Sums the outer products of the inputs of products; an input that several share once."""

    def __init__(self):
        self.first = 0  # the number of the window whose index is 0
        self._last: list[tuple] = [(None, ""), (None, "")]
        self.shared: dict[str, str] = {}  # the first product with an input, by each
        self.sums: tuple[dict, dict] = ({}, {})
        self.tokens: tuple[dict, dict] = ({}, {})

    def __call__(self, index: int, product: Product) -> None:
        if product.kind == "heads":
            return  # each has inputs of its own
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
        if product.kind == "plain":
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
        # numpy's product lets the other context's thread go on, which scipy's ssyrk does not; it
        # takes a matrix times its own transpose for the symmetric product that it is.
        rows = np.ascontiguousarray(rows)
        found = rows.T @ rows
        sums, tokens = self.sums[half], self.tokens[half]
        if key in sums:
            sums[key] += found
        else:
            sums[key] = found
        tokens[key] = tokens.get(key, 0) + len(rows)

    def excess(self) -> float:
        """`excess` of the inputs, on average over some of them; of experts that saw enough."""
        keys = [key for key in filter(self.saw_enough, self.sums[0]) if key in self.sums[1]]
        if not keys:
            return 0.0
        places = np.unique(np.linspace(0, len(keys) - 1, JUDGED).round().astype(int))
        return float(
            np.mean([excess(*(self._mean(half, keys[i]) for half in range(2))) for i in places])
        )

    def _mean(self, half, key):
        return self.sums[half][key] / np.float32(self.tokens[half][key])

    def write(self, h5, keep: Callable[[str], bool]) -> None:
        """Write the sums of those keys that `keep` is true of."""
        h5.attrs["shared"] = json.dumps(self.shared, sort_keys=True)
        for half, sums, tokens in zip(HALVES, self.sums, self.tokens, strict=True):
            for key in filter(keep, sorted(sums)):
                data = h5.create_dataset(f"{half}/{key}", data=sums[key])
                data.attrs["tokens"] = tokens[key]

    def read(self, h5) -> None:
        """Go on from what was written of all keys."""
        self.shared = json.loads(h5.attrs["shared"])
        for half, sums, tokens in zip(HALVES, self.sums, self.tokens, strict=True):
            for key, data in h5.get(half, {}).items():
                sums[key], tokens[key] = data[:], int(data.attrs["tokens"])


def layers_of(info: ModelInfo) -> int:
    """How many layers have weights."""
    found = [int(match[1]) for name in info.matrices if (match := _LAYER.match(name))]
    return max(found, default=-1) + 1


def collect(
    model: Model,
    work: Work,
    output: Path,
    *,
    windows: int | None = None,
    part: tuple[int, int] = (1, 1),
) -> None:
    """Write the moments of the inputs of some layers' products (HDF5).

    The last layers' come with that of the output matrix, be it the embeddings too or not. Windows
    are doubled until doubling them again promises too little: see `excess`. An expert that saw
    fewer than `ENOUGH` tokens for each of its inputs is left out. An interrupted run goes on from
    the last doubling.

    Args:
        windows: how many of the pool at most, from its first on; all where it is None.
        part: (k, n) for the k-th, from 1, of n equal parts of the layers.

    Raises:
        QuernError: an input is not finite.
    """
    count, over = work.count(windows), None
    layers = share(layers_of(work.info), part)

    def is_wanted(name):
        match = _LAYER.match(name)
        if name in OUTPUT_WEIGHTS:
            return part[0] == part[1]
        return match is not None and int(match[1]) in layers

    origin = {
        **work.origin,
        "part": "/".join(map(str, part)),
        "computed_by": computed_by(model.way.gpus),
    }
    count = count if any(map(is_wanted, work.info.matrices)) else 0
    partial = output.with_name(f"{output.name}.partial")
    products, done = _left(partial, origin, count) if partial.exists() else (OuterProducts(), 0)
    with (
        blas.one_thread(),
        tqdm(total=count, initial=done, unit="window", desc="moments", disable=None) as bar,
    ):
        while done < count:
            stop = min(count, max(FIRST, 2 * done))
            products.first = done
            some = work.windows(range(done, stop))
            for _ in model.activations(some, is_wanted, products):
                bar.update()
            done, over = stop, products.excess()
            log.info("%d windows: half of them is %.3f off the other half", done, over)
            if over / 2 < PAYS:
                break
            if done < count:
                with hdf5.writing(partial) as h5:
                    h5.attrs.update(origin, windows=done)
                    products.write(h5, bool)
    with hdf5.writing(output) as h5:
        h5.attrs.update(origin, windows=done, excess=np.nan if over is None else over)
        products.write(h5, products.saw_enough)
    partial.unlink(missing_ok=True)


def _left(partial: Path, origin: dict, count: int) -> tuple[OuterProducts, int]:
    """What an interrupted run left, and of how many windows; none where it is of no use."""
    products = OuterProducts()
    try:
        with hdf5.reading(partial, "unfinished file of moments") as h5:
            own, windows = {key: h5.attrs[key] for key in origin}, int(h5.attrs["windows"])
            if own == origin and windows < count:
                products.read(h5)
                return products, windows
            log.warning("%s is of another model, text or machine; begun anew", partial)
    except QuernError as error:
        log.warning("%s", error)
    return OuterProducts(), 0
