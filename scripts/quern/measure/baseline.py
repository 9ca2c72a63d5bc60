"""The baseline store: what the unquantized model says at the scored positions of each window.

Two encodings stand behind one interface. `hidden` keeps what enters the output matrix, in the type
that ggml feeds to the product, and multiplies again when the logits are wanted; `logits` keeps the
logits themselves.
"""

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from .. import QuernError
from ..gguf_files import ModelInfo
from ..llama import Model, computed_by
from ..tokens.work import Work
from .divergence import position_figures
from .output_matrix import OutputMatrix, Transform, to_hidden_type
from .window_store import WindowStore, partial_path, window_range

log = logging.getLogger("quern.logits")

STORES = ("auto", "hidden", "logits")
LOGITS_TYPES = ("float32", "float16")
PRODUCT_BYTES = 128 << 20  # bound on the logits of one product; many rows at once are faster
PROOF_KLD = 1e-9  # nats, the largest KLD of a position that passes for proof


def scored_positions(n_ctx: int, which: str) -> tuple[int, int]:
    """First and last + 1 scored position of a window; each predicts the token after it.

    `half` is what llama-perplexity scores: n_ctx / 2 to n_ctx - 2. `all` begins at 0.
    """
    return (0 if which == "all" else n_ctx // 2), n_ctx - 1


# --- writing ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Encoding:
    """How a store keeps its positions.

    Attributes:
        name: `hidden` or `logits`.
        dtype: of what is kept; uint16 holds the bits of bfloat16.
        reason: why, in words.
        kld: largest KLD (nats) of a proof position from what llama.cpp computed.
        matrix: the output matrix, for `hidden`.
    """

    name: str
    dtype: type
    reason: str
    kld: float
    matrix: OutputMatrix | None = None

    def attributes(self) -> dict:
        """What the store records of it."""
        found = {
            "encoding": self.name,
            "dtype": "bfloat16" if self.dtype == np.uint16 else np.dtype(self.dtype).name,
            "encoding_reason": self.reason,
            "reconstruction_kld": self.kld,
        }
        if self.matrix:
            found |= {
                "output_sha256": self.matrix.sha256(),
                "logit_scale": self.matrix.transform.scale,
                "logit_softcap": self.matrix.transform.cap,
            }
        return found


def choose_encoding(
    model: Model,
    info: ModelInfo,
    windows: np.ndarray,
    begin: int,
    end: int,
    *,
    store: str,
    logits_type: str,
) -> tuple[Encoding, dict[tuple[int, int], np.ndarray]]:
    """Choose hidden states where they give the logits of real windows again, else logits.

    Args:
        windows: tokens to try it on, int32 [n, n_ctx].
        begin, end: the scored positions.
        store: `hidden`, `logits`, or `auto`, which takes `hidden` where it is proved.
        logits_type: of `logits`.

    Returns:
        The encoding, and the hidden states that the trial computed, float32 [k, n_embd] by (window,
        position).

    Raises:
        QuernError: `hidden` is asked for and the reconstruction is not exact.
    """
    reason = "asked for"
    if store != "logits":
        try:
            # Of several that pass, the first is the smallest and the likeliest.
            least = np.inf
            for way in _ways(model, info):
                way, hidden = _prove(way, model, windows, begin, end)
                if way.kld <= PROOF_KLD:
                    return way, hidden
                least = min(least, way.kld)
            reason = (
                f"logits from hidden states would be off by a KLD of {least:.1e} nats or more, "
                f"beyond {PROOF_KLD:.0e}"
            )
        except QuernError as error:
            reason = str(error)
        if store == "hidden":
            raise QuernError(f"{model.path}: {reason}; use the store `auto` or `logits`.")
    dtype = np.dtype(logits_type).type
    kld = _rounding(model, windows, begin, end, dtype) if dtype != np.float32 else 0.0
    return Encoding("logits", dtype, reason, kld), {}


def _ways(model, info) -> list[Encoding]:
    """Every way to keep hidden states that is worth a trial."""
    matrix = OutputMatrix.of_model(model.path, info)
    places = [matrix.on_gpu(), matrix] if model.way.gpus else [matrix]
    return [
        Encoding("hidden", dtype, "proved on real windows", np.inf, replace(place, transform=t))
        for dtype in dict.fromkeys([matrix.hidden_type, np.float32])
        for place in places
        for t in matrix.suggested
    ]


def _prove(way: Encoding, model, windows, begin, end):
    """The encoding with its largest KLD, or the first that is too large; hidden states."""
    worst, kept, buffer = 0.0, {}, np.empty((0, model.n_vocab), np.float32)
    with ThreadPoolExecutor(model.way.threads) as pool:
        steps = model.hidden_states(windows, begin, end, with_logits=True)
        for window, position, hidden, logits in steps:
            kept[window, position] = hidden
            if logits is None:
                continue
            if len(buffer) < len(logits):
                buffer = np.empty_like(logits)
            again = way.matrix.logits(to_hidden_type(hidden, way.dtype), buffer, pool)
            worst = max(worst, _largest_kld(logits, again, pool))
            if worst > PROOF_KLD:
                break
    return replace(way, kld=worst), kept


def _rounding(model, windows, begin, end, dtype) -> float:
    with ThreadPoolExecutor(model.way.threads) as pool:
        return max(
            _largest_kld(logits, logits.astype(dtype).astype(np.float32), pool)
            for _, _, logits in model.logits(windows, begin, end)
        )


def _largest_kld(logits, others, pool) -> float:
    figures = position_figures(logits, others, np.zeros(len(logits), np.intp), pool)
    return float(np.nan_to_num(figures["kld"], nan=np.inf).max())


def write_baseline(
    model: Model,
    work: Work,
    output: Path,
    *,
    scored: str = "half",
    store: str = "auto",
    logits_type: str = "float32",
    limit: int | None = None,
    first: int | None = None,
    last: int | None = None,
) -> dict:
    """Decode windows and keep what they say; windows that are kept already are left alone.

    The store holds datasets `tokens` int32 and `source` uint8 [windows, n_ctx] and, by its
    encoding, `hidden` [windows, scored, n_embd] or `logits` [windows, scored, n_vocab], and
    attributes that say what it belongs to.

    Returns:
        The attributes.

    Raises:
        QuernError: the range is wrong, a value is not finite, `hidden` is asked for and does not
            give the logits again.
    """
    info, n_ctx, n = work.info, work.n_ctx, work.count(limit)
    wanted = window_range(first, last, n)
    begin, end = scored_positions(n_ctx, scored)
    identity = {
        "kind": "baseline",
        "model_sha256": info.sha256,  # stands before the rest of its origin, or bytes would change
        "tokenizer_sha256": info.tokenizer_sha256,
        "tokenizer_settings": json.dumps(info.tokenizer_settings),
        **work.origin,
        "beyond_training": work.beyond_training,
        "first_position": begin,
        "n_scored": end - begin,
        "n_vocab": model.n_vocab,
        "sources": json.dumps(work.tokens.sources),
        "computed_by": computed_by(model.way.gpus),
        "hdf5": h5py.version.hdf5_version,
        "asked": f"{store} {logits_type}",
    }
    kept, had = WindowStore.resume(output, identity, n), {}
    if kept is None:
        proof = [0, n - 1]  # decoded in full, to prove the reconstruction
        encoding, hidden = choose_encoding(
            *(model, info, work.windows(proof)[:], begin, end),
            store=store,
            logits_type=logits_type,
        )
        had = {(proof[i], position): rows for (i, position), rows in hidden.items()}
        log.info("store %s: %s", encoding.name, encoding.reason)
        columns = model.n_embd if encoding.name == "hidden" else model.n_vocab
        datasets = {
            "tokens": ((n_ctx,), np.int32),
            "source": ((n_ctx,), np.uint8),
            encoding.name: ((end - begin, columns), encoding.dtype),
        }
        attributes = identity | encoding.attributes()
        kept = WindowStore.create(partial_path(output), n, datasets, attributes)
    with kept:
        proved = ((w, p, rows) for (w, p), rows in had.items() if w in wanted)
        list(_keep(kept, model, work, proved))
        missing = [w for w in wanted if not kept.done[w]]
        with tqdm(total=len(missing), unit="window", desc="baseline", disable=None) as bar:
            for _ in _keep(kept, model, work, _decoded(kept, model, work, missing)):
                bar.update()
        facts = kept.attributes | {"n_windows": n, "bytes_per_token": kept.bytes_per(end - begin)}
        kept.finish(output)
    return facts


def _decoded(kept, model, work, numbers):
    """What the model says in these windows: (window, position, rows), in order."""
    first = kept.attributes["first_position"]
    last = first + kept.attributes["n_scored"]
    windows = work.windows(numbers)
    if not numbers:
        return
    if kept.attributes["encoding"] == "hidden":
        for i, position, rows, _ in model.hidden_states(windows, first, last):
            yield numbers[i], position, rows
    else:
        for i, position, rows in model.logits(windows, first, last):
            yield numbers[i], position, rows


def _keep(kept, model, work, steps):
    """Write what the model says into the store; yield after each window that is complete."""
    name = kept.attributes["encoding"]
    first, n_scored = kept.attributes["first_position"], kept.attributes["n_scored"]
    said = {}  # of one window, by position: the token there, and what follows it
    for window, position, rows in steps:
        if not np.isfinite(rows).all():
            raise QuernError(
                f"{model.path} computes values that are not finite in window {window}, near "
                f"position {position}."
            )
        own = work.windows([window])
        token = own[:][0, position]
        before, other = said.setdefault(position, (token, rows[0].copy()))
        heedless = token != before and np.array_equal(rows[0], other)
        if heedless or (len(rows) > 1 and (rows == rows[0]).all()):
            raise QuernError(
                f"{model.path} says the same whatever the text is, so nothing can be measured by "
                "it; it is no language model that computes logits (an encoder, perhaps)."
            )
        start = position - first
        kept.write(window, start, **{name: to_hidden_type(rows, kept.dtype(name))})
        if start + len(rows) == n_scored:
            kept.write(window, tokens=own[:][0])
            if own.has_sources:
                kept.write(window, source=own.sources(slice(None))[0])
            kept.commit(window)
            yield window


# --- reading ---------------------------------------------------------------------------------


class Baseline:
    """A baseline store, opened to be compared with; closed by `with`.

    Args:
        path: the store.
        model, info: the baseline's GGUF and what is known of it; needed where the store keeps
            hidden states, for the output weights, or where another file's vocabulary is to be held
            beside it.
        gpus: where there are any, the product of hidden states is computed on the first, so open
            the store before the models that share it.

    Raises:
        QuernError: the store is damaged or of another model, or the output weights are missing or
            not those it was made with.
    """

    def __init__(
        self,
        path: Path,
        model: Path | None = None,
        info: ModelInfo | None = None,
        *,
        gpus: int = 0,
    ):
        self._store = WindowStore.open(path)
        self.path, self.attributes = path, self._store.attributes
        self.model, self.info = model, info
        if self.attributes.get("kind") != "baseline":
            raise QuernError(f"{path} is no baseline store.")
        model_sha256 = self.attributes["model_sha256"]
        if info and model_sha256 not in (info.sha256, ""):
            raise QuernError(
                f"{path} was made from another baseline model ({model_sha256[:12]}…, not "
                f"{info.sha256[:12]}…); delete it and run again."
            )
        self.first, self.n_scored = self.attributes["first_position"], self.attributes["n_scored"]
        self.done, self._checked = self._store.done, set()
        self._product, self._produced = np.empty((0, 0), np.float32), (-1, 0, 0)
        if self.attributes["encoding"] == "hidden":
            matrix = self._output_matrix(model, info)
            self._matrix = matrix.on_gpu() if gpus else matrix

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._store.__exit__()

    def tokens(self, window: int) -> np.ndarray:
        """The tokens of a window, int32 [n_ctx]."""
        return self._store.read("tokens", window)

    def sources(self, window: int) -> np.ndarray:
        """The index in `source_names` of each token's source, uint8 [n_ctx]."""
        return self._store.read("source", window)

    @property
    def source_names(self) -> list[str]:
        """What the text was mixed from; empty where that is not known."""
        return json.loads(self.attributes.get("sources", "[]"))

    def logits(self, window: int, start: int, stop: int, pool: ThreadPoolExecutor) -> np.ndarray:
        """Logits of scored positions `start` to `stop` - 1 of a window.

        Returns:
            float32 or float16 [stop - start, n_vocab], valid until the next call; where the store
            keeps logits, something that reads them when it is sliced.

        Raises:
            QuernError: the window is damaged.
        """
        if window not in self._checked:
            self._store.check(window)
            self._checked.add(window)
        if self.attributes["encoding"] == "logits":
            return self._store.stored_rows("logits", window, start, stop)
        own, low, high = self._produced
        if window != own or start < low or stop > high:
            low, high = start, self._end_of_product(start, stop)
            if len(self._product) < high - low:
                self._product = np.empty((high - low, self.attributes["n_vocab"]), np.float32)
            hidden = self._store.read("hidden", window, low, high)
            self._matrix.logits(hidden, self._product, pool)
            self._produced = window, low, high
        return self._product[start - low : stop - low]

    def _end_of_product(self, start: int, stop: int) -> int:
        """Where to end a product that begins with `start`: after whole parts of this length."""
        part = stop - start
        parts = max(1, PRODUCT_BYTES // (4 * self.attributes["n_vocab"] * part))
        return min(self.n_scored, start + parts * part)

    def _output_matrix(self, model: Path | None, info: ModelInfo | None) -> OutputMatrix:
        a = self.attributes
        if model is None or info is None:
            raise QuernError(
                f"{self.path} keeps hidden states: give --baseline-model and --baseline-info, for "
                "the output weights."
            )
        matrix = OutputMatrix.of_model(model, info)
        if matrix.sha256() != a["output_sha256"]:
            raise QuernError(
                f"{self.path} was made with other output weights than those of {model}."
            )
        matrix.transform = Transform(a["logit_scale"], a["logit_softcap"])
        return matrix
