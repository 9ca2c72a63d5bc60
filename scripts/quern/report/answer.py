"""Which recipe to ship for a memory, and why: pure functions of what was measured.

Of the recipes that fit a budget, the one with the lowest score is best. Those whose score is `tied`
with it, or that we `cannot tell` from it, are as good for all that was measured; among these speed
decides where it was timed, and then size.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from .. import QuernError, files
from ..memory import stored
from ..sizes import shown
from ..speed import figures
from .pairs import Differences
from .phrases import listed

FIGURE = "score"
TIES = ("tied", "cannot tell")
# GB of memory that graphics cards and computers have.
CARDS = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256, 384, 512, 768)
_SPEED_TEST = "tg"  # generation is what a reader waits for


@dataclass(frozen=True)
class Contender:
    """A recipe that may be shipped.

    Attributes:
        foreign: whether somebody else quantized it.
        score: in nats, lower is better.
        total_bytes: of memory in use: tensors, K/V cache and compute buffers.
        speed: tokens/s of generation (median, low, high); None where it was not timed.
        kv_type: ggml's type of that cache.
        called: what sentences call it, where others do not know its name.
    """

    name: str
    foreign: bool
    score: float
    total_bytes: int
    speed: tuple[float, float, float] | None = None
    kv_type: str = "f16"
    called: str = ""

    @property
    def title(self) -> str:
        """What sentences call it."""
        return self.called or self.name


@dataclass(frozen=True)
class Choice:
    """What was chosen of those that fit.

    Attributes:
        recipe: to be shipped.
        best: with the lowest score; the same where nothing ties with it.
        tied: those that tie with the best and were not chosen, by rising size.
        by: what decided: `score`, `speed` or `size`.
    """

    recipe: Contender
    best: Contender
    tied: tuple[Contender, ...]
    by: str


def choose(contenders: list[Contender], differences: Differences, budget: int) -> Choice | None:
    """The recipe for a budget in bytes; None where none fits."""
    fitting = [r for r in contenders if r.total_bytes <= budget]
    if not fitting:
        return None
    best = _best(fitting, differences)
    equals = [best]
    equals += [
        r for r in fitting if r is not best and differences.of(r.name, best.name).verdict in TIES
    ]
    chosen, by = _among_equals(equals)
    tied = sorted((r for r in equals if r is not chosen), key=_by_size)
    return Choice(chosen, best, tuple(tied), by if tied else "score")


def _best(fitting, differences):
    """The lowest score of those to whom none is credibly better on the windows that both have."""

    def is_beaten(one):
        others = (o for o in fitting if o is not one)
        return any(differences.of(o.name, one.name).verdict == "better" for o in others)

    ranked = sorted(fitting, key=lambda r: (r.score, r.total_bytes, r.name))
    return next((r for r in ranked if not is_beaten(r)), ranked[0])


def _by_size(one):
    return one.total_bytes, one.score, one.name


def _among_equals(equals):
    """The fastest, or the smallest where speeds overlap or were not taken; what decided."""
    smallest = min(equals, key=_by_size)
    if any(r.speed is None for r in equals):
        return smallest, "size"
    fastest = max(equals, key=lambda r: r.speed[0])
    as_fast = [r for r in equals if r.speed[2] >= fastest.speed[1]]
    by = "speed" if len(as_fast) < len(equals) else "size"
    return min(as_fast, key=_by_size), by


def answer(contenders: list[Contender], differences: Differences, budget: int, n_ctx: int) -> dict:
    """What to ship for a budget, in the form of `results/{model}/report/{corpus}.json`.

    Args:
        budget: bytes of memory.
        n_ctx: the context that the contenders' `total_bytes` are for.

    Returns:
        budget_bytes, n_ctx; kv_type of the recipe, or of the smallest where none fits; recipe (None
        where none fits), foreign, called (what others know it by, where that is another name),
        own (the same choice among the recipes that are not foreign),
        total_bytes, free_bytes, why, tied, and next: what the next step of memory would buy (None
        where nothing).
    """
    choice = choose(contenders, differences, budget)
    own = choose([r for r in contenders if not r.foreign], differences, budget)
    least = min(contenders, key=_by_size)
    kv_type = choice.recipe.kv_type if choice else least.kv_type
    found = {"budget_bytes": budget, "n_ctx": n_ctx, "kv_type": kv_type}
    found |= {"recipe": None, "foreign": False, "own": own.recipe.name if own else None}
    found |= {"total_bytes": None, "free_bytes": None, "tied": []}
    if choice is None:
        found["why"] = (
            f"Nothing fits: the smallest, {least.title}, needs {shown(least.total_bytes)} with a "
            f"context of {n_ctx:,} tokens."
        )
    else:
        found["recipe"], found["foreign"] = choice.recipe.name, choice.recipe.foreign
        if choice.recipe.called:
            found["called"] = choice.recipe.called
        found["total_bytes"] = choice.recipe.total_bytes
        found["free_bytes"] = budget - choice.recipe.total_bytes
        found["tied"] = [r.name for r in choice.tied]
        found["why"] = _why(choice, contenders, differences, budget)
    return found | {"next": _next(choice, contenders, differences, budget)}


def _why(choice, contenders, differences, budget):
    """Why this recipe, and not its neighbours in size."""
    ordered = sorted(contenders, key=_by_size)
    place = ordered.index(choice.recipe)
    said = [_of_choice(choice)]
    # What ties is named already.
    larger = [r for r in ordered[place + 1 :] if r not in choice.tied]
    smaller = [r for r in ordered[:place] if r not in choice.tied]
    if larger and larger[0].total_bytes > budget:
        more = shown(larger[0].total_bytes - budget)
        said.append(
            f"The next larger, {larger[0].title}, needs {shown(larger[0].total_bytes)}: {more} too "
            "much."
        )
    elif larger:
        said.append(
            f"The next larger, {larger[0].title}, {_worse(larger[0], choice, differences)}."
        )
    if smaller:
        said.append(
            f"The next smaller, {smaller[-1].title}, {_worse(smaller[-1], choice, differences)}."
        )
    return " ".join(said)


def _of_choice(choice):
    if not choice.tied:
        return "It has the lowest score of those that fit."
    best, others = choice.best, [r.title for r in choice.tied if r is not choice.best]
    if choice.recipe is best:
        said = f"It has the lowest score, from which that of {listed(others)} cannot be told"
    else:
        said = f"Its score cannot be told from the lowest, that of {best.title}"
        said += f", nor can that of {listed(others)}" if others else ""
    if choice.by == "size":
        return f"{said}; none of them is smaller."
    median, low, high = choice.recipe.speed
    return (
        f"{said}; it is the fastest of them ({median:.3g} tokens/s, {low:.3g} to {high:.3g} in the "
        "middle half of the rounds)."
    )


def _worse(other, choice, differences):
    """How far a recipe that fits lies behind the best."""
    behind = differences.of(other.name, choice.best.name)
    than = "" if choice.best is choice.recipe else f" than that of {choice.best.title}"
    return f"has a score that is credibly higher{than}, by {behind.size}"


def _next(choice, contenders, differences, budget):
    """The least budget at which something credibly better could be shipped, and what."""
    for total in sorted({r.total_bytes for r in contenders if r.total_bytes > budget}):
        then = choose(contenders, differences, total).recipe
        more = f"{shown(total - budget)} more ({shown(total)}) would hold {then.title}"
        found = {"budget_bytes": total, "recipe": then.name}
        if choice is None:
            return found | {"sentence": f"{more}, the smallest."}
        gain = differences.of(then.name, choice.recipe.name) if then != choice.recipe else None
        if gain and gain.verdict == "better":
            return found | {"sentence": f"{more}, whose score is credibly lower, by {gain.size}."}
    return None


def budgets(contenders: list[Contender], cards: tuple[int, ...] = CARDS) -> list[int]:
    """The sizes of usual cards that recipes span, in bytes.

    They begin with the first that holds the smallest recipe and end with the first that holds all.
    """
    totals = [r.total_bytes for r in contenders]
    sizes = [card * 10**9 for card in cards]
    first = next((i for i, s in enumerate(sizes) if s >= min(totals)), len(sizes) - 1)
    last = next((i for i, s in enumerate(sizes) if s >= max(totals)), len(sizes) - 1)
    return sizes[first : last + 1]


def contexts(memory: dict[str, dict]) -> list[int]:
    """The contexts for which all recipes' memory is known.

    Args:
        memory: by recipe, what memory.py wrote.

    Raises:
        QuernError: there is none.
    """
    known = [list(_by_context(own)) for own in memory.values()]
    common = [n_ctx for n_ctx in known[0] if all(n_ctx in own for own in known)] if known else []
    if not common:
        raise QuernError("the recipes' memory was not computed for the same contexts.")
    return common


def _by_context(memory: dict) -> dict[int, dict]:
    """A recipe's memory with its own type of cache, the first, by context."""
    own = memory["contexts"][0]["kv_type"] if memory["contexts"] else None
    return {c["n_ctx"]: c for c in memory["contexts"] if c["kv_type"] == own}


def contenders(
    table: pd.DataFrame,
    memory: dict[str, dict],
    speed: dict | None,
    n_ctx: int,
    called: Mapping[str, str] | None = None,
) -> list[Contender]:
    """The recipes of a summary's table that have figures and a known memory.

    Args:
        table: the summary's.
        memory: by recipe, what memory.py wrote; the first type of its cache is the recipe's.
        speed: what speed.py wrote; None where nothing was timed. Speeds of a busy machine do not
            count, see `speed.figures`.
        called: what others know some of them by.
    """
    speeds = {} if speed is None or figures.was_busy(speed) else generation(speed)
    needs = {name: own[n_ctx] for name, m in memory.items() if n_ctx in (own := _by_context(m))}
    foreign = table.foreign if "foreign" in table else [False] * len(table)
    rows = zip(table.recipe, foreign, table[FIGURE], strict=True)
    return [
        Contender(
            *(name, bool(is_foreign), float(score), needs[name]["total_bytes"], speeds.get(name)),
            *(needs[name]["kv_type"], (called or {}).get(name, "")),
        )
        for name, is_foreign, score in rows
        if name in needs and pd.notna(score)
    ]


def read_memory(paths: list[Path]) -> dict[str, dict]:
    """What memory.py wrote, by recipe; recipes that could not be made are left out.

    Raises:
        QuernError: a file is missing, damaged or impossible.
    """
    found = [stored.read(path) for path in paths if not files.failure(path)]
    return {memory["recipe"]: memory for memory in found}


def foreign_names(infos: Mapping[str, dict]) -> dict[str, str]:
    """What others know foreign models by: their files and a part of their hash, by name.

    Args:
        infos: what foreign.py wrote, by name.
    """
    found = {}
    for name, info in infos.items():
        made = info["made"]
        found[name] = f"{file_of(made)} (SHA-256 {made['sha256'][:12]}…)"
    return found


def file_of(made: Mapping) -> str:
    """A foreign model's file as others know it, with its repository where that is known."""
    return " of ".join([made["files"][0], *filter(None, [made.get("repository")])])


def generation(speed: dict | None) -> dict[str, tuple[float, float, float]]:
    """Tokens/s of generation at the least depth by recipe: median, low, high."""
    results = (speed or {}).get("results", [])
    timed = [r for r in results if r["test"].startswith(_SPEED_TEST)]
    least = min((r["depth"] for r in timed), default=0)
    return {r["recipe"]: (r["median"], r["low"], r["high"]) for r in timed if r["depth"] == least}


def answers(
    table: pd.DataFrame,
    pairs: pd.DataFrame,
    memory: dict[str, dict],
    speed: dict | None,
    wanted: list[int],
    called: Mapping[str, str] | None = None,
) -> list[dict]:
    """What to ship for each context and budget.

    Args:
        table, pairs: the summary's.
        memory, speed: as for `contenders`.
        wanted: budgets in bytes; those of usual cards where there is none.
        called: what others know some of the recipes by, see `foreign_names`.
    """
    differences, found = Differences(pairs, FIGURE), []
    for n_ctx in contexts(memory):
        own = contenders(table, memory, speed, n_ctx, called)
        if not own:
            raise QuernError("no recipe has both figures and a known memory.")
        for budget in wanted or budgets(own):
            found.append(answer(own, differences, budget, n_ctx))
    return found


def markdown(found: list[dict], title: str, speed: dict | None = None) -> str:
    """The answers as GitHub Markdown: a table, and a paragraph for each.

    Args:
        speed: as for `contenders`.
    """
    rows = [
        {
            "memory": shown(a["budget_bytes"]),
            "context": f"{a['n_ctx']:,}",
            "ship": f"`{a['recipe']}`" if a["recipe"] else "nothing fits",
            "needs": shown(a["total_bytes"]) if a["recipe"] else "",
            "leaves free": shown(a["free_bytes"]) if a["recipe"] else "",
            "as good": ", ".join(f"`{name}`" for name in a["tied"]),
        }
        for a in found
    ]
    types = list(dict.fromkeys(a["kv_type"] for a in found))
    if len(types) > 1:
        rows = [row | {"cache": a["kv_type"]} for row, a in zip(rows, found, strict=True)]
    align = ["left" if c in ("ship", "as good", "cache") else "right" for c in rows[0]]
    body = pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True, colalign=align)
    said = "".join(
        f"- **{shown(a['budget_bytes'])}, {a['n_ctx']:,} tokens of context**: {a['why']} "
        f"{next_step(a)}\n"
        for a in found
    )
    return (
        f"# {title}\n\n{body}\n\n{said}\nMemory is that of the tensors, a {' or '.join(types)} KV "
        "cache for the context, and llama.cpp's compute buffers. 1 GB is 10⁹ bytes, so a card of "
        "8 GiB has some 7 % left for others. Scores that differ by less than their noise, or whose "
        "paired 95 % interval holds 0, count as equal.\n"
        + (f"{figures.load_text(speed)}\n" if speed else "")
    )


def next_step(found: dict) -> str:
    """What more memory would buy, in a sentence."""
    if found["next"]:
        return found["next"]["sentence"]
    return "More memory would buy nothing: no other recipe is credibly better."
