"""The baseline store: the unquantized model's logits at the scored positions of each window."""

import logging
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from . import QuernError
from .gguf_files import ModelInfo
from .llama import VERSION, Model
from .window_store import WindowStore, window_range
from .windows import Tokens

log = logging.getLogger("quern.logits")


def scored_positions(n_ctx: int, which: str) -> tuple[int, int]:
    """First and last + 1 scored position of a window; each predicts the token after it.

    `half` is what llama-perplexity scores: n_ctx / 2 to n_ctx - 2. `all` begins at 0.
    """
    return (0 if which == "all" else n_ctx // 2), n_ctx - 1


def write_baseline(
    model: Model,
    info: ModelInfo,
    tokens: Tokens,
    output: Path,
    *,
    n_ctx: int,
    scored: str = "half",
    limit: int | None = None,
    first: int | None = None,
    last: int | None = None,
) -> dict:
    """Decode windows and store their logits; windows that are stored already are left alone.

    The store holds datasets `tokens` int32 [windows, n_ctx] and `logits` float32
    [windows, scored, n_vocab], and attributes that say what it belongs to.

    Returns:
        The attributes.

    Raises:
        QuernError: the text is too short, the range is wrong, the tokens are another model's.
    """
    require_tokenizer(tokens, info)
    n = tokens.n_windows(n_ctx, limit)
    wanted = window_range(first, last, n)
    begin, end = scored_positions(n_ctx, scored)
    attributes = {
        "kind": "baseline",
        "encoding": "logits",
        "model_sha256": info.sha256,
        "tokenizer_sha256": info.tokenizer_sha256,
        "text_sha256": tokens.text_sha256,
        "n_ctx": n_ctx,
        "first_position": begin,
        "n_scored": end - begin,
        "n_vocab": model.n_vocab,
        "n_windows": n,
        "llama_cpp_python": VERSION,
        "hdf5": h5py.version.hdf5_version,
    }
    datasets = {
        "tokens": ((n_ctx,), np.int32),
        "logits": ((end - begin, model.n_vocab), np.float32),
    }
    with WindowStore.resume(output, n, datasets, attributes) as store:
        missing = [w for w in wanted if not store.done[w]]
        with tqdm(total=len(missing), unit="window", desc="baseline", disable=None) as bar:
            windows = tokens.windows(n_ctx, missing)
            for i, position, logits in model.logits(windows, begin, end):
                store.write(missing[i], position - begin, logits=logits)
                if position + len(logits) == end:
                    store.write(missing[i], tokens=windows[i : i + 1][0])
                    store.commit(missing[i])
                    bar.update()
        store.finish(output)
    return attributes


def require_tokenizer(tokens: Tokens, info: ModelInfo) -> None:
    """Refuse tokens that another tokenizer made.

    Raises:
        QuernError: the tokenizers differ.
    """
    if tokens.tokenizer_sha256 != info.tokenizer_sha256:
        raise QuernError(
            f"{tokens.path} was made with another tokenizer than the model's; delete it and run "
            "again."
        )
