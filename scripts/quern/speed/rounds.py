"""Rounds in which all models are timed in turns, so that a drift of the machine hits all alike.

What is timed is what llama.cpp's tools/llama-bench times, see `llama.Bench`.
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from .. import files
from ..command import option
from ..llama import ONE_THREAD, Bench, Model, Way, computed_by
from . import figures
from .machine import Others, available_bytes, machine

log = logging.getLogger("quern.speed")


@dataclass(frozen=True)
class Timing:
    """What is timed.

    Attributes:
        prompt, generation: tokens of a prompt, and tokens that are generated.
        depths: tokens that the context holds before, each a test of its own.
        repeats: rounds.
    """

    prompt: int = option("tokens of a prompt", 512)
    generation: int = option("tokens to generate", 128)
    depths: tuple[int, ...] = option(
        "tokens that the context holds before; each a test of its own (default: 0)", (0,), type=int
    )
    repeats: int = option("how often all are timed", 5)

    @property
    def tests(self) -> list[tuple[str, int, int]]:
        """Kind (`pp` or `tg`), tokens and depth of each test."""
        kinds = [("pp", self.prompt), ("tg", self.generation)]
        return [(kind, n, depth) for depth in self.depths for kind, n in kinds]

    @property
    def n_ctx(self) -> int:
        """Tokens that a context must hold."""
        return max(self.depths) + max(self.prompt, self.generation)


@dataclass(frozen=True)
class Timed:
    """A model that is timed."""

    name: str
    model: Path
    sha256: str
    bytes: int


def speeds(timed: list[Timed], settings: Timing, kept: Path, way: Way = ONE_THREAD) -> dict:
    """Time all models, round by round; every other round in the opposite order.

    Models stay open where all fit into half of the memory that is left, and are opened anew in each
    round where they do not. Each is warmed up before it is timed.

    Args:
        kept: finished rounds (JSON); gone on with if it is of the same models, settings, build and
            machine, and removed by `forget`.

    Returns:
        `machine`, `settings`, `load` (cores that other programs kept busy, with quartiles over the
        rounds), `results` as `summarize` gives them, `provenance`.
    """
    found = {
        "machine": machine(way.gpus),
        "settings": asdict(settings) | {"threads": way.threads, "gpus": way.gpus},
        "provenance": {
            "computed_by": computed_by(way.gpus),
            "models": {t.name: t.sha256 for t in timed},
        },
    }
    found["settings"]["depths"] = list(settings.depths)
    # Those of an older version say nothing of the load.
    rounds = [own for own in done_rounds(kept, found) if own.keys() == {"rates", "load"}]
    warn_of_load(way.threads)
    together = not way.gpus and sum(t.bytes for t in timed) < available_bytes() / 2
    with contextlib.ExitStack() as stack:
        bar = tqdm(total=settings.repeats * len(timed), unit="model", desc="speed", disable=None)
        stack.enter_context(bar)
        bar.update(len(rounds) * len(timed))
        opened = {}
        for number in range(len(rounds), settings.repeats):
            rates, others = {}, Others()
            for t in timed if number % 2 == 0 else reversed(timed):
                bar.set_postfix_str(t.name)
                bench = opened.get(t.name) or _opened(t, settings, way)
                if together and t.name not in opened:
                    bench = opened[t.name] = stack.enter_context(bench)
                with contextlib.nullcontext(bench) if together else bench as ready:
                    rates[t.name] = _rates(ready, settings)
                bar.update()
            rounds.append({"rates": rates, "load": others.cores()})
            files.write_json(kept, found | {"rounds": rounds})
    loads = [own["load"] for own in rounds]
    found |= {"load": figures.spread(loads) | {"samples": loads}}
    found |= {"results": summarize([own["rates"] for own in rounds], settings)}
    if figures.was_busy(found):
        log.warning(figures.load_text(found))
    return found


def forget(kept: Path) -> None:
    """Remove the rounds that are kept, once the result is written."""
    kept.unlink(missing_ok=True)


def warn_of_load(threads: int) -> None:
    """Say it where other programs keep the machine busy."""
    if (load := os.getloadavg()[0]) > 0.5 * threads:
        log.warning("other programs run on this machine (load %.1f) and take time from it", load)


def done_rounds(path: Path, found: dict) -> list[dict]:
    """The `rounds` that another run kept in `path`, where it `found` the same else."""
    if not path.exists():
        return []
    before = files.read_json(path)
    rounds = before.pop("rounds")
    if before != found:
        log.warning("%s is of other models, settings or another machine; timed anew", path)
        return []
    log.info("%d rounds are done", len(rounds))
    return rounds


@contextlib.contextmanager
def _opened(timed: Timed, settings: Timing, way: Way) -> Iterator[Bench]:
    """A model to be timed."""
    with Model(timed.model, way) as model, Bench(model, settings.n_ctx) as bench:
        yield bench


def _rates(bench: Bench, settings: Timing) -> dict[str, float]:
    """Tokens per second of each test, by its label, after a run that does not count."""
    bench.fill(0)
    bench.prompt(settings.prompt)
    bench.fill(0)
    bench.generate(1)
    rates = {}
    for kind, n, depth in settings.tests:
        bench.fill(depth)
        seconds = bench.prompt(n) if kind == "pp" else bench.generate(n)
        rates[label(kind, n, depth)] = n / seconds
    return rates


def label(kind: str, n: int, depth: int) -> str:
    """A test as llama-bench writes it: `pp512`, `tg128 @ d4096`."""
    return f"{kind}{n} @ d{depth}" if depth else f"{kind}{n}"


def summarize(rounds: list[dict[str, dict[str, float]]], settings: Timing) -> list[dict]:
    """For each model and test `median`, `low` and `high` in tokens per second, and all `samples`.

    `low` and `high` are the quartiles.
    """
    found = []
    for name in rounds[0]:
        for kind, n, depth in settings.tests:
            samples = [rates[name][label(kind, n, depth)] for rates in rounds]
            test = {"recipe": name, "test": f"{kind}{n}", "depth": depth}
            found.append(test | figures.spread(samples) | {"samples": samples})
    return found
