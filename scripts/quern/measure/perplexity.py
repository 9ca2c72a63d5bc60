"""Perplexity alone: what a model makes of a text, without a baseline.

Windows and scored positions are those of llama.cpp's tools/perplexity/perplexity.cpp. Usually
windows follow each other, begin with BOS, and their second half is scored (`perplexity` there).
With a stride they overlap: each begins `stride` tokens after the one before, and the last `stride`
tokens of each are scored, so every token is scored once and has a long context (`perplexity_v2`).
Their first token is then the text's own, since the tool puts BOS there only after it has decoded.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from .. import QuernError
from ..command import option
from ..llama import Model, computed_by
from ..tokens.work import Work
from .baseline import scored_positions
from .divergence import likelihoods
from .statistics import Replicates, resampled
from .window_store import WindowStore

PROTOCOL = ("text_sha256", "n_ctx", "stride", "common_tokens")  # alike where figures are compared


@dataclass(frozen=True)
class Cut:
    """How a text is cut.

    Attributes:
        n_ctx: tokens per window.
        windows: how many at most; all of the text where it is None.
        stride: tokens from the beginning of a window to that of the next; n_ctx where it is None.
    """

    n_ctx: int = option("tokens per window", 512)
    windows: int | None = option("use at most this many windows of the text", None, type=int)
    stride: int | None = option(
        "let windows overlap: each begins so many tokens after the one before, and so many are "
        "scored, as llama-perplexity --ppl-stride does",
        None,
        type=int,
    )


def scored_of(work: Work) -> tuple[int, int]:
    """First and last + 1 scored position of a window; each predicts the token after it."""
    if work.stride:
        return work.n_ctx - work.stride - 1, work.n_ctx - 1
    return scored_positions(work.n_ctx, "half")


def measure(model: Model, work: Work, output: Path, limit: int | None = None) -> None:
    """Write the negative log-likelihood of each scored token (HDF5).

    The store holds `nll`, float64 [windows, scored], in nats. Windows that are done are left alone.

    Over the tokens that model and text have in common, probabilities add up to 1.

    Args:
        limit: how many windows at most; all of the text where it is None.

    Raises:
        QuernError: a token is not among those in common, or a logit is not finite.
    """
    common = work.shared.count if work.shared else model.n_vocab
    first, last = scored_of(work)
    attributes = {
        "kind": "perplexity",
        **work.origin,
        "stride": work.stride or 0,
        "common_tokens": common,
        "vocabulary": work.shared.said if work.shared else "",
        "beyond_training": work.beyond_training,
        "computed_by": computed_by(model.way.gpus),
        "hdf5": h5py.version.hdf5_version,
    }
    datasets = {"nll": ((last - first,), np.float64)}
    with (
        WindowStore.resume_or_create(output, work.count(limit), datasets, attributes) as store,
        ThreadPoolExecutor(model.way.threads) as pool,
    ):
        missing = np.flatnonzero(~store.done).tolist()
        windows = work.windows(missing)
        with tqdm(total=len(missing), unit="window", desc="perplexity", disable=None) as bar:
            for i, position, logits in model.logits(windows, first, last) if missing else ():
                targets = windows[i : i + 1][0][position + 1 : position + 1 + len(logits)]
                if targets.max() >= common:
                    raise QuernError(
                        f"window {missing[i]} of {work.tokens.path} has the token "
                        f"{targets.max()}; {model.path} has only the first {common} in common "
                        "with it."
                    )
                nll = likelihoods(logits[:, :common], targets, pool)
                if not np.isfinite(nll).all():
                    raise QuernError(
                        f"{model.path} computes logits that are not finite in window {missing[i]}, "
                        f"near position {position}."
                    )
                store.write(missing[i], position - first, nll=nll)
                if position + len(logits) == last:
                    store.commit(missing[i])
                    bar.update()
        store.finish(output)


def read(path: Path) -> tuple[np.ndarray, dict]:
    """The `nll` of all windows, float64 [windows, scored], and what they belong to.

    Raises:
        QuernError: the store is damaged.
    """
    with WindowStore.open(path) as store:
        for window in np.flatnonzero(store.done):
            store.check(window)
        return store.rows("nll"), store.attributes


def replicates(nll: np.ndarray, attributes: dict) -> Replicates:
    """`ppl` and its logarithm `nll` (nats), with replicates over blocks of windows.

    Overlapping windows stand in one block as far as they share tokens, so a block is n_ctx tokens
    of the text at least.
    """
    together = -(-attributes["n_ctx"] // (attributes["stride"] or attributes["n_ctx"]))
    starts = np.arange(0, len(nll), together)
    sums = np.add.reduceat(nll.sum(1), starts)
    counts = np.diff([*starts, len(nll)]) * float(nll.shape[1])

    def figures(weights):
        mean = weights @ sums / (weights @ counts)
        return {"nll": mean, "ppl": np.exp(mean)}

    own = {name: float(value[0]) for name, value in figures(np.ones((1, len(sums)))).items()}
    with np.errstate(invalid="ignore"):  # one block, left out, leaves nothing
        drawn, left_out = map(figures, resampled(len(sums)))
    return Replicates(own, drawn, left_out, len(sums))


def summarize(path: Path) -> dict:
    """Perplexity and mean negative log-likelihood with 95 % intervals, and llama-perplexity's ±.

    `plus_minus` is as if positions were independent; the interval, over windows (BCa), is what to
    believe. Where all windows share tokens there is none: its ends are None, and `no_interval` is
    the reason.
    """
    nll, attributes = read(path)
    found = replicates(nll, attributes)
    error = float(np.sqrt(max((nll**2).mean() - nll.mean() ** 2, 0) / (nll.size - 1)))
    figures = {}
    for name, scale in (("ppl", found.values["ppl"]), ("nll", 1.0)):
        low, high = found.interval(name) if found.n_windows > 1 else (None, None)
        figures[name] = {"value": found.values[name], "low": low, "high": high}
        figures[name]["plus_minus"] = error * scale
    return {
        "windows": len(nll),
        "blocks": found.n_windows,
        "positions": nll.size,
        "figures": figures,
        "provenance": attributes,
    } | ({} if found.n_windows > 1 else {"no_interval": _no_interval(len(nll))})


def _no_interval(windows: int) -> str:
    """Why figures of one block of windows have no interval, a sentence."""
    alone = "All windows share tokens" if windows > 1 else "There is one window"
    return (
        f"{alone}, so nothing says how the figures vary, and they have no interval; measure more "
        "windows, or of less overlap."
    )


def require_alike(one: dict, other: dict, path: Path) -> None:
    """Refuse to compare figures of other tokens.

    Raises:
        QuernError: the sentence names what differs.
    """
    for key in PROTOCOL:
        if one[key] != other[key]:
            raise QuernError(
                f"{path} was measured with {key} = {json.dumps(other[key])}, the first with "
                f"{json.dumps(one[key])}; measure both alike."
            )
