"""How far a quantized model strays from its baseline, position by position.

For a scored position with baseline probabilities p and quantized probabilities q:

- `kld` = KL(p ‖ q) in nats, as Σ p · (e^(−d) − 1 + d) with d = ln p − ln q. It equals
  Σ p · d because both sum to 1, and no term is negative.
- `nll_base`, `nll`: −ln of the true next token's probability, in nats.
- `dp`: q − p of the true token.
- `same_top`: whether both find the same token likeliest.
"""

import logging
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from . import QuernError
from .gguf_files import ModelInfo
from .llama import VERSION, Model
from .window_store import WindowStore, window_range

log = logging.getLogger("quern.divergence")

FIGURES = {
    "kld": np.float64,
    "nll_base": np.float64,
    "nll": np.float64,
    "dp": np.float64,
    "same_top": np.uint8,
}
_BLOCK = 1 << 17  # elements worked on at a time: they stay in the cache


def position_figures(
    base: np.ndarray, logits: np.ndarray, targets: np.ndarray
) -> dict[str, np.ndarray]:
    """The figures of some positions, in float64.

    Args:
        base, logits: float [positions, n_vocab], of the baseline and the quantized model.
        targets: the true next tokens, int [positions].

    Returns:
        The `FIGURES`, each [positions].
    """
    n, n_vocab = base.shape
    out = {name: np.empty(n, dtype) for name, dtype in FIGURES.items()}
    rows = max(1, _BLOCK // n_vocab)
    for start in range(0, n, rows):
        block = slice(start, start + rows)
        log_p, log_q = _log_softmax(base[block]), _log_softmax(logits[block])
        true = np.arange(len(log_p)), targets[block]
        out["nll_base"][block], out["nll"][block] = -log_p[true], -log_q[true]
        out["dp"][block] = np.exp(log_q[true]) - np.exp(log_p[true])
        out["same_top"][block] = log_p.argmax(1) == log_q.argmax(1)
        difference = log_p - log_q
        terms = np.expm1(-difference)
        terms += difference
        out["kld"][block] = np.einsum("ij,ij->i", np.exp(log_p), terms)
    return out


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def compare(
    model: Model,
    info: ModelInfo,
    baseline: Path,
    output: Path,
    *,
    baseline_sha256: str | None = None,
    first: int | None = None,
    last: int | None = None,
) -> dict:
    """Compare a quantized model with a baseline store, window by window, into `output` (HDF5).

    Args:
        baseline_sha256: the baseline model's hash, to make sure that the store is its.

    Returns:
        The attributes of the output.

    Raises:
        QuernError: the store is damaged, or of another model, tokenizer or vocabulary.
    """
    with WindowStore.open(baseline) as base:
        require_same_model(base, info, baseline_sha256)
        a = base.attributes
        stored = np.flatnonzero(base.done)
        wanted = window_range(first, last, a["n_windows"])
        if absent := sorted(set(wanted) - set(stored.tolist())):
            raise QuernError(
                f"{baseline} does not hold window {absent[0]} ({len(stored)} of "
                f"{a['n_windows']} are there); extend it with scripts/baseline.py."
            )
        begin, n_scored = a["first_position"], a["n_scored"]
        attributes = {
            "kind": "comparison",
            "baseline_sha256": a["model_sha256"],
            "quantized_sha256": info.sha256,
            "llama_cpp_python": VERSION,
            "hdf5": h5py.version.hdf5_version,
        } | {k: a[k] for k in ("text_sha256", "n_ctx", "first_position", "n_scored", "n_windows")}
        datasets = {name: ((n_scored,), dtype) for name, dtype in FIGURES.items()}
        with WindowStore.resume(output, a["n_windows"], datasets, attributes) as store:
            missing = [w for w in wanted if not store.done[w]]
            windows = np.array([base.read("tokens", w) for w in missing], np.int32)
            with tqdm(total=len(missing), unit="window", desc="compare", disable=None) as bar:
                for i, position, logits in (
                    model.logits(windows, begin, begin + n_scored) if missing else ()
                ):
                    start, stop = position - begin, position - begin + len(logits)
                    targets = windows[i, position + 1 : position + 1 + len(logits)]
                    reference = base.read("logits", missing[i], start, stop)
                    store.write(missing[i], start, **position_figures(reference, logits, targets))
                    if stop == n_scored:
                        store.commit(missing[i])
                        bar.update()
            store.finish(output)
    return attributes


def require_same_model(base: WindowStore, info: ModelInfo, baseline_sha256: str | None) -> None:
    """Refuse a store that this comparison cannot be drawn from.

    Raises:
        QuernError: it is no baseline, of another model, or of another tokenizer.
    """
    a = base.attributes
    if a.get("kind") != "baseline":
        raise QuernError(f"{base.path} is not a baseline store.")
    if baseline_sha256 and a["model_sha256"] != baseline_sha256:
        raise QuernError(
            f"{base.path} was made from another baseline model ({a['model_sha256'][:12]}…, not "
            f"{baseline_sha256[:12]}…); delete it and run again."
        )
    if a["tokenizer_sha256"] != info.tokenizer_sha256:
        raise QuernError(
            f"{base.path} was made with another tokenizer than the quantized model's; they are "
            "not the same model."
        )
