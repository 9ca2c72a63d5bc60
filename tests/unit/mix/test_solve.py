"""The best mix within a budget, against all mixes there are."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quern import QuernError
from quern.mix.solve import TypeChoice, solve

choice = st.builds(
    TypeChoice,
    st.sampled_from(["a", "b", "c"]),
    st.integers(1, 40).map((32).__mul__),
    st.floats(0, 1) | st.floats(0, 1e-6),
)
tensors = st.lists(st.lists(choice, min_size=1, max_size=4), min_size=1, max_size=5)


def total(mix, what):
    return sum(getattr(choice, what) for choice in mix)


@settings(max_examples=150, deadline=None)
@given(tensors, st.floats(0, 1.1))
def test_no_mix_within_the_budget_has_less_damage(options, share):
    choices = {f"t{i}": own for i, own in enumerate(options)}
    smallest = sum(min(c.bytes for c in own) for own in options)
    largest = sum(max(c.bytes for c in own) for own in options)
    budget = int(smallest + share * (largest - smallest))
    found = solve(choices, budget)
    assert all(found[name] in own for name, own in choices.items())
    assert total(found.values(), "bytes") <= budget
    mixes = [m for m in itertools.product(*options) if total(m, "bytes") <= budget]
    best = min(total(mix, "damage") for mix in mixes)
    assert total(found.values(), "damage") <= best * (1 + 1e-5) + 1e-15


def many(n, kinds):
    rng = np.random.default_rng(1)
    choices = {}
    for t in range(n):
        weights, level = int(rng.choice([2**18, 2**20, 2**24])), np.exp(rng.normal(0, 2))
        bits = np.sort(rng.uniform(2, 8.5, kinds))
        damages = level * np.exp(-1.38 * bits + rng.normal(0, 0.3, kinds))
        choices[f"t{t}"] = [
            TypeChoice(f"k{k}", int(weights * b / 8) // 32 * 32, float(d))
            for k, (b, d) in enumerate(zip(bits, damages, strict=True))
        ]
    return choices


def test_a_larger_budget_is_never_worse(capfd):
    choices, before = many(40, 8), np.inf
    smallest = sum(min(c.bytes for c in own) for own in choices.values())
    for budget in np.linspace(smallest, 3 * smallest, 12).astype(int).tolist():
        damage = total(solve(choices, budget).values(), "damage")
        assert damage <= before * (1 + 1e-5)
        before = damage
    assert capfd.readouterr().out == ""


def test_budgets_beyond_all_mixes():
    choices = many(5, 4)
    smallest = sum(min(c.bytes for c in own) for own in choices.values())
    with pytest.raises(QuernError, match=f"the smallest mix has {smallest:,} bytes"):
        solve(choices, smallest - 1)
    assert total(solve(choices, smallest).values(), "bytes") == smallest
    found = solve(choices, 10**12)
    assert all(found[n].damage == min(c.damage for c in own) for n, own in choices.items())


@pytest.mark.parametrize("damage", [np.nan, np.inf, -1.0])
def test_a_damage_that_is_none(damage):
    with pytest.raises(QuernError, match="the damage of t is not finite; measure it again"):
        solve({"t": [TypeChoice("a", 32, damage)]}, 100)
