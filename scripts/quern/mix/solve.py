"""Choose a type for each tensor: the least damage within a budget, exactly.

The multiple-choice knapsack, min Σ d_tk x_tk with Σ_k x_tk = 1 and Σ b_tk x_tk ≤ B, is solved as a
mixed-integer program by HiGHS. First, choices that another one beats in both bytes and damage are
left out.
"""

import contextlib
import itertools
import os
import sys
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import optimize, sparse

from .. import QuernError, RecipeError

SECONDS = 10.0  # after which the best mix found so far is taken
GAP = 1e-6  # of the damage, within which a mix is taken for the best
LEAST = 1e-12  # nats; a divergence that is predicted to be less is none
_SCALE = 1e6  # of the objective, since HiGHS also has an absolute gap


class TypeChoice(NamedTuple):
    """A type that a tensor may have.

    Attributes:
        bytes: with padding.
        damage: its share of the divergence, nats.
    """

    type: str
    bytes: int
    damage: float


def solve(choices: Mapping[str, list[TypeChoice]], budget: int) -> dict[str, TypeChoice]:
    """The choice of each tensor.

    Args:
        choices: by tensor; damages are not negative.
        budget: bytes of all of them together.

    Raises:
        RecipeError: the smallest mix has more bytes.
        QuernError: a damage is not finite.
    """
    for name, options in choices.items():
        if not all(np.isfinite(c.damage) and c.damage >= 0 for c in options):
            raise QuernError(f"the damage of {name} is not finite; measure it again.")
    smallest = {n: min(options, key=_by_bytes) for n, options in choices.items()}
    least = sum(c.bytes for c in smallest.values())
    if least > budget:
        raise RecipeError(
            f"the smallest mix has {least:,} bytes of tensors, {budget:,} are allowed; allow more, "
            "or smaller types."
        )
    useful = {name: _undominated(options) for name, options in choices.items()}
    best = {name: min(options, key=_by_damage) for name, options in useful.items()}
    if sum(c.bytes for c in best.values()) <= budget:
        return best
    greedy = _by_slope(useful, budget)
    found = _by_program(useful, budget, max(_damage(greedy), LEAST))
    return min((found, greedy), key=_damage) if found else greedy


def _by_bytes(choice: TypeChoice) -> tuple:
    return choice.bytes, choice.damage, choice.type


def _by_damage(choice: TypeChoice) -> tuple:
    return choice.damage, choice.bytes, choice.type


def _damage(mix: Mapping[str, TypeChoice]) -> float:
    return sum(c.damage for c in mix.values())


def _undominated(options: list[TypeChoice]) -> list[TypeChoice]:
    """Choices by rising bytes and falling damage."""
    kept: list[TypeChoice] = []
    for choice in sorted(options, key=_by_bytes):
        if not kept or choice.damage < kept[-1].damage:
            kept.append(choice)
    return kept


def _by_slope(choices: Mapping[str, list[TypeChoice]], budget: int) -> dict[str, TypeChoice]:
    """A mix within the budget: steps along each tensor's convex hull, those that save most first,
    each as long as it fits."""
    mix = {name: options[0] for name, options in choices.items()}
    steps = []
    for name, options in choices.items():
        hull: list[TypeChoice] = []
        for c in options:
            while len(hull) > 1 and _slope(hull[-2], hull[-1]) <= _slope(hull[-1], c):
                hull.pop()
            hull.append(c)
        pairs = itertools.pairwise(hull)
        steps += [(-_slope(a, b), name, i, b) for i, (a, b) in enumerate(pairs)]
    left = budget - sum(c.bytes for c in mix.values())
    for _, name, _, choice in sorted(steps, key=_by_step):
        more = choice.bytes - mix[name].bytes
        if 0 < more <= left and choice.damage < mix[name].damage:
            mix[name], left = choice, left - more
    return mix


def _slope(a: TypeChoice, b: TypeChoice) -> float:
    """Damage saved per byte from `a` to `b`."""
    return (a.damage - b.damage) / (b.bytes - a.bytes)


def _by_step(step: tuple) -> tuple:
    return step[:3]


@contextlib.contextmanager
def _silence():
    """Discard what compiled code writes to standard output within the block."""
    sys.stdout.flush()
    kept = os.dup(1)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _by_program(
    choices: Mapping[str, list[TypeChoice]], budget: int, bound: float
) -> dict[str, TypeChoice] | None:
    names = list(choices)
    flat = [(i, c) for i, name in enumerate(names) for c in choices[name]]
    damages = np.array([c.damage for _, c in flat])
    sizes = np.array([c.bytes for _, c in flat], np.float64)
    owner = np.array([i for i, _ in flat])
    one_each = sparse.csr_array((np.ones(len(flat)), (owner, np.arange(len(flat)))))
    unit = float(np.gcd.reduce(sizes.astype(np.int64)))
    whole = budget // unit
    for _ in range(5):
        with _silence():  # HiGHS prints lines of its own debugging
            result = optimize.milp(
                damages * (_SCALE / bound),
                integrality=np.ones(len(flat)),
                bounds=optimize.Bounds(0, 1),
                constraints=[
                    optimize.LinearConstraint(one_each, 1, 1),
                    optimize.LinearConstraint(sizes[None] / unit, -np.inf, whole),
                ],
                options={"time_limit": SECONDS, "mip_rel_gap": GAP},
            )
        if result.x is None:
            return None
        taken = np.flatnonzero(result.x > 0.5)
        mix = {names[flat[k][0]]: flat[k][1] for k in taken}
        over = sum(c.bytes for c in mix.values()) - budget
        if len(mix) == len(names) and over <= 0:
            return mix
        whole -= max(1, -(-over // unit))  # the program allows a little beyond its bounds
    return None
