"""Trials of all ways in turns: round by round, each way decodes the same windows.

What is timed is what the stages do: windows of a text are decoded to the logits of their second
half, by the same code. The model is loaded once. The first windows of each trial, in which contexts
are made and memory is touched first, do not count.
"""

import hashlib
import logging
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .. import QuernError, files
from ..command import option
from ..llama import ONE_THREAD, Model, Way, computed_by, reserved_for_windows
from ..speed.machine import machine
from ..speed.rounds import done_rounds, warn_of_load
from .grid import described, grid, label

log = logging.getLogger("quern.tuning")

WARM = 2  # windows of each trial that do not count, one a context


@dataclass(frozen=True)
class Trials:
    """What is timed.

    Attributes:
        windows: of each way in each round, an even number, so that contexts share them evenly.
        repeats: rounds.
    """

    n_ctx: int = option("tokens per window", 512)
    windows: int = option("windows that are timed in each round, an even number", 4)
    repeats: int = option("rounds; more rounds show smaller gains", 8)

    @property
    def scored(self) -> tuple[int, int]:
        """First and last + 1 position whose logits are asked for."""
        return self.n_ctx // 2, self.n_ctx - 1


def trials(
    path: Path,
    sha256: str,
    windows: np.ndarray,
    settings: Trials,
    kept: Path,
    way: Way = ONE_THREAD,
) -> dict:
    """Time all ways, every other round in the opposite order.

    Args:
        path, sha256: the model.
        windows: tokens, int32 [WARM + settings.windows, n_ctx], BOS in place.
        kept: finished rounds (JSON), gone on with if all else is the same.
        way: what is tuned, with its threads and GPUs.

    Returns:
        `machine`, `settings`, `provenance`; `ways`, of each what it is, its `memory_bytes` (its
        contexts, the weights apart) and `same_bits` (whether its logits are the bits of the first,
        the usual way); `failed`, with the reason; `rounds`, seconds by way.

    Raises:
        QuernError: the usual way fails.
    """
    found = {
        "machine": machine(way.gpus),
        "settings": asdict(settings) | {"threads": way.threads, "gpus": way.gpus},
        "provenance": {
            "model_sha256": sha256,
            "computed_by": computed_by(way.gpus),
            "tokens_sha256": hashlib.sha256(windows.tobytes()).hexdigest(),
        },
    }
    warn_of_load(way.threads)
    with Model(path, way) as model:
        ways = _ways(model, settings)
        known, failed = _described(model, ways, windows, settings)
        found |= {
            "ways": [described(tried) | facts for tried, facts in known.items()],
            "failed": failed,
        }
        rounds = done_rounds(kept, found)
        bar = tqdm(total=settings.repeats * len(known), unit="trial", desc="tune", disable=None)
        with bar:
            bar.update(len(rounds) * len(known))
            for number in range(len(rounds), settings.repeats):
                seconds = {}
                for tried in known if number % 2 == 0 else reversed(known):
                    model.way = tried
                    seconds[label(tried)] = seconds_of(model, windows, settings)
                    bar.update()
                rounds.append(seconds)
                files.write_json(kept, found | {"rounds": rounds})
    return found | {"rounds": rounds}


def seconds_of(model: Model, windows: np.ndarray, settings: Trials) -> float:
    """Seconds for all windows but the first `WARM`."""
    begin = end = time.perf_counter()
    last = settings.scored[1]
    for i, position, logits in model.logits(windows, *settings.scored):
        if position + len(logits) == last:
            end = time.perf_counter()
            begin = end if i < WARM else begin
    return end - begin


def _ways(model: Model, settings: Trials) -> list[Way]:
    """The usual way first."""
    n_ctx, (first, last) = settings.n_ctx, settings.scored
    n_batch = min(Way.n_batch, n_ctx)
    fits = model.logits_fit(last - first)
    usual = replace(
        model.way,
        n_batch=n_batch,
        n_ubatch=min(Way.n_ubatch, n_batch),
        contexts=model.usual_contexts(n_ctx) if fits else 1,
    )
    most = usual.contexts if usual.gpus else 2  # as many as there is memory for
    return grid(n_ctx, usual, contexts=(1, 2)[:most] if fits else (1,))


def _described(model, ways, windows, settings) -> tuple[dict[Way, dict], dict[str, str]]:
    """Memory and bits of each way, and why some cannot be used."""
    known, failed, expected = {}, {}, None
    with Model(model.path, model.way, load="hollow") as hollow:
        for way in ways:
            model.way = hollow.way = way
            try:
                own = reserved_for_windows(hollow, settings.n_ctx)
                bits = _bits(model, windows[:WARM], settings)
            except QuernError as error:
                if expected is None:
                    raise
                log.warning("%s: %s", label(way), error)
                failed[label(way)] = str(error)
                continue
            expected = expected or bits
            size = way.contexts * (own.cache + own.compute)
            known[way] = {"memory_bytes": size, "same_bits": bits == expected}
    return known, failed


def _bits(model, windows, settings) -> str:
    """A hash of the logits of some windows."""
    digest = hashlib.sha256()
    for _, _, logits in model.logits(windows, *settings.scored):
        digest.update(np.ascontiguousarray(logits))
    return digest.hexdigest()
