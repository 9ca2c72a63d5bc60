"""Compare quantized models with a baseline store, window by window.

The baseline's logits are the same for all of them, so they are computed once for several.
"""

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from .. import QuernError, vocabulary
from ..gguf_files import ModelInfo, require_positions, require_same_shapes
from ..llama import KV_TYPE, ONE_THREAD, Model, Way, computed_by
from ..vocabulary import Common
from . import statistics
from .baseline import Baseline
from .divergence import FIGURES, position_figures
from .window_store import WindowStore, partial_path, window_range

NOISE_WINDOWS = 8  # that are decoded again
NOISE_N_UBATCH = 93  # unlike a usual batch: one row is left where kernels take four

log = logging.getLogger("quern.comparison")


@dataclass(frozen=True)
class Comparison:
    """A quantized model, and where its figures go."""

    model: Path
    info: ModelInfo
    output: Path


@dataclass(frozen=True)
class Until:
    """Stop once a figure is known well enough.

    Attributes:
        figure: a name of `statistics.FIGURES`.
        within: half the width of its interval, as a share of the figure.
    """

    figure: str
    within: float


def compare(
    comparisons: list[Comparison],
    baseline: Baseline,
    way: Way = ONE_THREAD,
    *,
    kv_type: str = KV_TYPE,
    flash: str = "auto",
    first: int | None = None,
    last: int | None = None,
    windows: list[int] | None = None,
    until: Until | None = None,
) -> None:
    """Write the figures of each model at each scored position (HDF5).

    The baseline's logits are computed once for all models. Windows that are compared already
    are left alone.

    Args:
        kv_type, flash: as for `Model`; the baseline's are always the usual ones.
        first, last, windows: which windows, from one to another or by number; all where not given.

    Raises:
        QuernError: the store is damaged, or of another model, tokenizer or vocabulary; a logit is
            not finite.
    """
    wanted = windows or list(window_range(first, last, len(baseline.done)))
    if absent := [w for w in wanted if not baseline.done[w]]:
        raise QuernError(
            f"{baseline.path} does not hold window {absent[0]} ({baseline.done.sum()} of "
            f"{len(baseline.done)} are there); extend it with scripts/baseline.py."
        )
    if until:  # a random order, so that the first windows stand for all
        wanted = np.random.default_rng(0).permutation(wanted).tolist()
    cache = {"kv_type": kv_type, "flash": flash}
    with ExitStack() as stack:
        lanes = [stack.enter_context(_Lane(own, baseline, way, cache)) for own in comparisons]
        pool = stack.enter_context(ThreadPoolExecutor(way.threads))
        bar = stack.enter_context(
            tqdm(total=len(wanted), unit="window", desc="compare", disable=None)
        )
        for batch in _looks(len(wanted)) if until else [len(wanted)]:
            some = [w for w in wanted[:batch] if not all(lane.store.done[w] for lane in lanes)]
            bar.update(batch - bar.n - len(some))
            for _ in _figures(lanes, baseline, some, pool) if some else ():
                bar.update()
            if until and all(_known(lane.store, until, batch, len(wanted)) for lane in lanes):
                break
        for lane, own in zip(lanes, comparisons, strict=True):
            lane.store.finish(own.output)


def summarize(output: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """The summary of a comparison, over all and per source, and the figures of each window."""
    with WindowStore.open(output) as store:
        figures, numbers = read_figures(store), np.flatnonzero(store.done)
        sources, attributes = store.rows("source"), store.attributes
    sample = statistics.Sample(figures)
    result = {
        "windows": sample.n_windows,
        "positions": sample.n_positions,
        "figures": statistics.summarize(sample),
        "sources": {},
        "provenance": attributes,
    }
    for i, name in enumerate(json.loads(attributes["sources"])):
        if (sources == i).any():
            part = statistics.Sample(figures, sources == i)
            result["sources"][name] = {
                "windows": part.n_windows,
                "positions": part.n_positions,
                "figures": statistics.summarize(part),
            }
    return result, {"window": numbers} | sample.per_window()


def read_figures(store: WindowStore) -> dict[str, np.ndarray]:
    """The `FIGURES` of all windows of a comparison, each [windows, positions].

    Raises:
        QuernError: a window is damaged.
    """
    for window in np.flatnonzero(store.done):
        store.check(window)
    return {name: store.rows(name) for name in FIGURES}


def noise(
    own: Comparison, baseline: Baseline, way: Way = ONE_THREAD, *, windows: int = NOISE_WINDOWS
) -> dict:
    """How far a finished comparison's figures would move if the same model computed otherwise.

    Some of its windows are decoded again in graphs of another size, which changes the last digits
    of llama.cpp's sums. In a quantized model such differences grow to steps, since activations are
    rounded to 8 bits before each product. To first order they move KL(p ‖ q) by Σ (q − p) · δ, so a
    recipe's noise grows with its own divergence; that of the baseline against itself says nothing
    of it.

    Args:
        windows: how many are decoded again.

    Returns:
        For each figure of `statistics.FIGURES` the 95 % bound of its difference over all windows of
        the comparison: 1.96 · √(m² + s² · n / N), where s is the standard error of the difference
        over the n windows that were decoded again, m² the square of the difference less s² (what is
        no accident of these windows), and N how many windows there are.
    """
    with WindowStore.open(own.output) as store:
        numbers, figures = np.flatnonzero(store.done), read_figures(store)
        cache = {key: store.attributes[key] for key in ("kv_type", "flash")}
    n = min(windows, len(numbers))
    size = min(NOISE_N_UBATCH, baseline.attributes["n_ctx"] // 2 + 1)
    if n < 2:
        return {"windows": 0, "tokens_per_graph": size, "figures": {}}
    places = np.unique(np.linspace(0, len(numbers) - 1, n).round().astype(int))
    again = replace(own, output=own.output.with_name(f".{own.output.name}.again"))
    left = (again.output, partial_path(again.output))
    for path in left:
        path.unlink(missing_ok=True)
    try:
        other_graphs = replace(way, n_ubatch=size)
        compare([again], baseline, other_graphs, **cache, windows=numbers[places].tolist())
        with WindowStore.open(again.output) as store:
            other = statistics.Sample(read_figures(store)).replicates
    finally:
        for path in left:
            path.unlink(missing_ok=True)
    before = statistics.Sample({name: rows[places] for name, rows in figures.items()}).replicates
    found = {}
    for name in statistics.FIGURES:
        value = before.values[name] - other.values[name]
        error = float((before.drawn[name] - other.drawn[name]).std(ddof=1))
        lasting = max(value**2 - error**2, 0)
        found[name] = 1.96 * float(np.sqrt(lasting + error**2 * len(places) / len(numbers)))
    return {"windows": len(places), "tokens_per_graph": size, "figures": found}


class _Lane:
    """A model at work: itself, the store of its figures, its tokens that count.

    Args:
        cache: `kv_type` and `flash`.
    """

    def __init__(self, own: Comparison, baseline: Baseline, way: Way, cache: dict[str, str]):
        n_ctx = int(baseline.attributes["n_ctx"])
        require_positions(own.info, n_ctx, own.model)
        shared = _common_tokens(baseline, own)
        self.count = shared.count
        if shared.said:
            log.warning("%s: %s", own.model, shared.said)
        for key, (before, now) in _changed_settings(baseline, own.info).items():
            log.warning(
                "%s: its tokenizer's %s is %s, the baseline's %s", own.model, key, now, before
            )
        with ExitStack() as stack:
            self.model = stack.enter_context(Model(own.model, way, n_ctx=n_ctx, **cache))
            attributes = _attributes(own, baseline, shared, cache, computed_by(way.gpus))
            self.store = stack.enter_context(_store(own.output, baseline, attributes))
            self._open = stack.pop_all()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._open.close()

    def logits(self, baseline: Baseline, windows: list[int]) -> Iterator:
        """The model's logits in these windows, as `Model.logits` yields them."""
        tokens = np.array([baseline.tokens(w) for w in windows], np.int32)
        if tokens.max() >= self.count:
            window = windows[int((tokens >= self.count).any(axis=1).argmax())]
            raise QuernError(
                f"window {window} of {baseline.path} has the token {tokens.max()}, which is not "
                f"among the {self.count} that {self.model.path} has in common with the baseline."
            )
        if not baseline.attributes["tokenizer_sha256"]:  # llama-perplexity's: the text as it was
            tokens = self.model.with_bos(tokens)
        return self.model.logits(tokens, baseline.first, baseline.first + baseline.n_scored)

    def keep(self, baseline: Baseline, window: int, position: int, reference, logits, pool):
        """Write the figures of some positions; a window counts with its last."""
        first, n_scored = baseline.first, baseline.n_scored
        targets = baseline.tokens(window)[position + 1 : position + 1 + len(logits)]
        figures = position_figures(reference, logits, targets, pool, self.count)
        if not np.isfinite(figures["kld"]).all():
            raise QuernError(
                f"{self.model.path} computes logits that are not finite in window {window}, "
                f"near position {position}."
            )
        self.store.write(window, position - first, **figures)
        if position - first + len(logits) == n_scored:
            if baseline.source_names:
                predicted = baseline.sources(window)[first + 1 : first + 1 + n_scored]
                self.store.write(window, source=predicted)
            self.store.commit(window)


def _figures(lanes, baseline, windows, pool):
    """Fill the lanes' stores; yield after each window."""
    for steps in zip(*(lane.logits(baseline, windows) for lane in lanes), strict=True):
        i, position, rows = steps[0]
        start, stop = position - baseline.first, position - baseline.first + len(rows)
        reference = baseline.logits(windows[i], start, stop, pool)
        for lane, (*_, rows) in zip(lanes, steps, strict=True):
            lane.keep(baseline, windows[i], position, reference, rows, pool)
        if stop == baseline.n_scored:
            yield


def _attributes(own: Comparison, baseline: Baseline, shared: Common, cache, by: str) -> dict:
    """What a comparison belongs to."""
    a = baseline.attributes
    return {
        "kind": "comparison",
        "baseline_sha256": a["model_sha256"],
        "quantized_sha256": own.info.sha256,
        "computed_by": by,
        **cache,
        "baseline_computed_by": a.get("computed_by", ""),
        "hdf5": h5py.version.hdf5_version,
        "baseline_encoding": a["encoding"],
        "clipped": bool(a.get("clipped", False)),
        "beyond_training": a.get("beyond_training", ""),
        "tokenizer_differs": json.dumps(_changed_settings(baseline, own.info)),
        "common_tokens": shared.count,
        "vocabulary": shared.said,
        "sources": a.get("sources", "[]"),
    } | {k: a[k] for k in ("text_sha256", "n_ctx", "first_position", "n_scored")}


def _store(output: Path, baseline: Baseline, attributes: dict) -> WindowStore:
    datasets = {
        name: ((baseline.n_scored,), dtype)
        for name, dtype in (FIGURES | {"source": np.uint8}).items()
    }
    return WindowStore.resume_or_create(output, len(baseline.done), datasets, attributes)


def _looks(n: int):
    """The numbers of windows after which to look: 16, half as many more each time, and n."""
    looked = 16
    while looked < n:
        yield looked
        looked += looked // 2
    yield n


def _known(store, until, batch, n) -> bool:
    """Whether the figure's interval is narrow enough, at a look that has its share of 5 %."""
    look = list(_looks(n)).index(batch) + 1
    sample = statistics.Sample(read_figures(store))
    width = sample.half_width(until.figure, 1 - 0.05 / (look * (look + 1)))
    value = sample.values()[until.figure]
    log.info("%d windows: %s = %.6g ± %.2g", batch, until.figure, value, width)
    return width <= until.within * abs(value)


def _common_tokens(base: Baseline, own: Comparison) -> Common:
    """The tokens that a model is compared over, which is of the baseline's."""
    a, info = base.attributes, own.info
    if base.info:
        require_same_shapes(info, own.model, base.info, base.model or base.path)
    same = a["tokenizer_sha256"] in (info.tokenizer_sha256, "")
    if same and a["n_vocab"] == info.n_vocab:
        return Common(info.n_vocab, "")
    if base.model:
        return vocabulary.common(base.model, own.model)
    raise QuernError(
        f"{base.path} was made with another vocabulary than {own.model} has; give "
        "--baseline-model, to know which tokens are the same."
    )


def _changed_settings(base: Baseline, info: ModelInfo) -> dict[str, list]:
    """What the quantized model's tokenizer metadata say otherwise: [baseline, quantized] by key.

    They change no figure, since the baseline's tokens are compared as they are.
    """
    if "tokenizer_settings" not in base.attributes:
        return {}
    before, now = json.loads(base.attributes["tokenizer_settings"]), info.tokenizer_settings
    return {
        key: [before.get(key), now.get(key)]
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    }
