"""The stop rule: when more calibration data no longer pays, and which size to take.

A pure function of the steps' facts and of the settings. The rules call it while the graph is built,
so nothing heavy is imported here.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path

from .. import files


@dataclass(frozen=True)
class Decision:
    """Whether to stop after the steps so far, why, and which one to take if so.

    Attributes:
        stop, reason: as said.
        chosen: the smallest step that is not credibly worse than the best one.
        best: the step of the lowest score.
    """

    stop: bool
    reason: str
    chosen: int
    best: int


def decide(steps: list[dict], *, min_gain: float, patience: int, last: bool = False) -> Decision:
    """Decide after some steps.

    Growth stops when the gain was credibly below `min_gain` for `patience` steps in a row (the
    upper end of its interval lies below), or not credibly above zero for as long (the lower end
    does not lie above), or when the pool is used up, or at the last step of the ladder.

    Args:
        steps: facts of steps 0, 1, …, as `measure` makes them.
        min_gain: share by which a step must lower the score to be worth it.
        patience: how many steps in a row must disappoint.
        last: the ladder ends here.
    """
    threshold = -math.log1p(-min_gain)
    recent = [step["gains"][-1] for step in steps[1:]][-patience:]
    reason = ""
    if len(recent) == patience:
        if all(gain["high"] < threshold for gain in recent):
            reason = f"the gain is credibly below {min_gain:.2%}"
        elif all(gain["low"] <= 0 for gain in recent):
            reason = "the gain is not credibly above zero"
    if not reason and steps[-1]["exhausted"]:
        reason = "the pool is used up"
    if not reason and last:
        reason = "the largest size is reached"
    best = min(range(len(steps)), key=lambda k: steps[k]["ln_score"])
    chosen = next(k for k in range(best + 1) if k == best or not _worse(steps, k, best))
    return Decision(bool(reason), reason, chosen, best)


def _worse(steps: list[dict], k: int, best: int) -> bool:
    """Whether step `k` is credibly worse than the later step `best`."""
    return steps[best]["gains"][k]["low"] > 0


def choose(facts: list[Path], *, min_gain: float, patience: int) -> dict:
    """The decision over steps, with the numbers behind it.

    Args:
        facts: the JSON of each step, in order.

    Returns:
        `decision`, `settings`, `steps`.
    """
    steps = [files.read_json(path) for path in facts]
    found = decide(steps, min_gain=min_gain, patience=patience, last=True)
    return {
        "decision": asdict(found),
        "settings": {"min_gain": min_gain, "patience": patience},
        "steps": steps,
    }
