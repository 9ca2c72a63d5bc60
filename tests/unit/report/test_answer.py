"""Which recipe is named for a memory, on made-up figures whose answers are known."""

import dataclasses
import re

import pandas as pd
import pytest

from quern import QuernError, files, sizes
from quern.report import answer
from quern.report.answer import FIGURE, Contender
from quern.report.pairs import Differences

MB = 10**6
SCORES = {"q2": 0.9, "q3": 0.4, "q4": 0.101, "q4x": 0.1, "q8": 0.02}
TIED = {("q4", "q4x"), ("q4x", "q4")}
CONTENDERS = [
    Contender(name, False, score, (10 + 10 * i) * MB)
    for i, (name, score) in enumerate(SCORES.items())
]


def pairs(scores=SCORES, tied=TIED):
    """The table of pairs: every difference is known to ± 0.01."""
    names, rows = list(scores), []
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            value = scores[one] - scores[other]
            said = "cannot tell" if (one, other) in tied else "worse" if value > 0 else "better"
            for figure in ("score", "kld_mean"):
                rows.append((one, other, figure, value, value - 0.01, value + 0.01, 0.0, said))
    columns = ["recipe", "other", "figure", "difference", "low", "high", "noise", "verdict"]
    return pd.DataFrame(rows, columns=columns)


DIFFERENCES = Differences(pairs(), FIGURE)


def ask(budget, contenders=CONTENDERS):
    return answer.answer(contenders, DIFFERENCES, budget * MB, 4096)


def test_what_others_made_is_called_what_others_know():
    """Its key of the configuration stands in no sentence."""
    made = {"files": ["X-Q4.gguf", "X-2.gguf"], "sha256": "ab" * 32}
    names = answer.foreign_names(
        {"q3": {"made": made}, "q4": {"made": made | {"repository": "owner/X"}}}
    )
    assert names == {
        "q3": "X-Q4.gguf (SHA-256 abababababab…)",
        "q4": "X-Q4.gguf of owner/X (SHA-256 abababababab…)",
    }
    theirs = [
        dataclasses.replace(r, foreign=r.name in names, called=names.get(r.name, ""))
        for r in CONTENDERS
    ]
    for budget in (5, 15, 25, 35, 45, 55):
        found, plain = ask(budget, theirs), ask(budget)
        said = found["why"] + answer.next_step(found)
        assert not {"q3", "q4"} & set(re.findall(r"\w+", said))
        assert found["recipe"] == plain["recipe"] and found.get("called") == names.get(
            found["recipe"]
        )
    assert names["q3"] in ask(15, theirs)["why"] and "called" not in ask(15)


def test_a_difference_is_the_same_from_both_sides():
    there, back = DIFFERENCES.of("q2", "q3"), DIFFERENCES.of("q3", "q2")
    assert (there.verdict, back.verdict) == ("worse", "better")
    assert (back.value, back.low, back.high) == (-there.value, -there.high, -there.low)
    assert there.size == back.size == "0.5 nats (0.49 to 0.51)"
    with pytest.raises(QuernError, match="q2 and q9"):
        DIFFERENCES.of("q2", "q9")


def test_the_lowest_score_that_fits():
    found = ask(25)
    assert (found["recipe"], found["total_bytes"], found["free_bytes"]) == ("q3", 20 * MB, 5 * MB)
    assert found["tied"] == [] and found["own"] == "q3"
    assert found["why"] == (
        "It has the lowest score of those that fit. The next larger, q4, needs 30 MB: 5 MB too "
        "much. The next smaller, q2, has a score that is credibly higher, by 0.5 nats (0.49 to "
        "0.51)."
    )
    assert found["next"] == {
        "budget_bytes": 30 * MB,
        "recipe": "q4",
        "sentence": "5 MB more (30 MB) would hold q4, whose score is credibly lower, by 0.299 nats "
        "(0.289 to 0.309).",
    }


def test_of_equals_the_smallest_is_named_and_the_others_beside_it():
    found = ask(40)
    assert (found["recipe"], found["tied"]) == ("q4", ["q4x"])
    assert "cannot be told from the lowest, that of q4x; none of them is smaller" in found["why"]
    assert "q3, has a score that is credibly higher than that of q4x" in found["why"]
    assert found["next"]["recipe"] == "q8"  # q4x would buy nothing


@pytest.mark.parametrize(
    ("q4", "q4x", "named", "word"),
    [
        ((50, 49, 51), (60, 59, 61), "q4x", "fastest"),
        ((60, 59, 61), (50, 49, 51), "q4", "fastest"),
        ((50, 45, 60), (60, 55, 65), "q4", "smaller"),  # the ranges overlap
        (None, (60, 55, 65), "q4", "smaller"),  # one was not timed
    ],
)
def test_speed_decides_among_equals(q4, q4x, named, word):
    speeds = {"q4": q4, "q4x": q4x}
    timed = [
        Contender(r.name, False, r.score, r.total_bytes, speeds.get(r.name)) for r in CONTENDERS
    ]
    found = ask(40, timed)
    assert found["recipe"] == named and word in found["why"]
    if word == "fastest":
        assert "(60 tokens/s, 59 to 61 in the middle half of the rounds)" in found["why"]


def test_a_worse_one_that_is_larger_is_told():
    odd = [*CONTENDERS[:3], Contender("q8", False, SCORES["q2"], 35 * MB)]
    differences = Differences(pairs({**SCORES, "q8": SCORES["q2"]}), FIGURE)
    found = answer.answer(odd, differences, 35 * MB, 4096)
    assert found["recipe"] == "q4"
    assert "The next larger, q8, has a score that is credibly higher, by 0.799" in found["why"]
    assert found["next"] is None
    assert "would buy nothing" in answer.next_step(found)


def test_nothing_fits():
    found = ask(5)
    assert found["recipe"] is found["own"] is found["total_bytes"] is None
    assert (
        found["why"]
        == "Nothing fits: the smallest, q2, needs 10 MB with a context of 4,096 tokens."
    )
    assert (found["next"]["recipe"], found["next"]["budget_bytes"]) == ("q2", 10 * MB)


def test_what_others_made_competes_and_our_best_is_named_beside_it():
    foreign = [Contender(r.name, r.name == "q8", r.score, r.total_bytes) for r in CONTENDERS]
    found = ask(50, foreign)
    assert (found["recipe"], found["foreign"], found["own"]) == ("q8", True, "q4")


def test_the_best_is_beaten_by_none():
    """With `until`, scores stand on other windows than paired differences."""
    turned = pairs({"q4": 0.2, "q4x": 0.1}, tied=())
    contenders = [Contender("q4", False, 0.1, 10), Contender("q4x", False, 0.11, 20)]
    assert answer.choose(contenders, Differences(turned, FIGURE), 30).recipe.name == "q4x"


@pytest.mark.parametrize(
    ("totals", "expected"),
    [
        ([0.9, 3.2], [1, 2, 3, 4]),
        ([0.001, 0.002], [1]),
        ([8, 24], [8, 10, 12, 16, 20, 24]),
        ([900, 2000], [768]),
    ],
)
def test_usual_cards_that_the_recipes_span(totals, expected):
    contenders = [Contender(str(t), False, 1.0, int(t * 10**9)) for t in totals]
    assert [b // 10**9 for b in answer.budgets(contenders)] == expected


def memory_of(name, tensors, contexts):
    """A memory as memory.py writes it, with a cache of 1,000 bytes a token in f16."""
    found = []
    for n_ctx, kv_type in contexts:
        kv = n_ctx * (1000 if kv_type == "f16" else 500)
        found.append({"n_ctx": n_ctx, "kv_type": kv_type, "kv_bytes": kv, "compute_bytes": 10})
        found[-1]["total_bytes"] = tensors + kv + 10
    provenance = {"sha256": "a" * 64}
    return {
        "recipe": name,
        "tensor_bytes": tensors,
        "repacked_bytes": 0,
        "contexts": found,
        "provenance": provenance,
    }


def test_answers_for_every_context_and_budget(tmp_path):
    contexts = [(100, "f16"), (100, "q8_0"), (200, "f16")]
    paths = []
    for name, tensors in {"q2": 1 * MB, "q3": 2 * MB}.items():
        paths.append(tmp_path / f"{name}.json")
        files.write_json(paths[-1], memory_of(name, tensors, contexts))
    files.write_failure(tmp_path / "bad.json", "llama.cpp crashed")
    memory = answer.read_memory([*paths, tmp_path / "bad.json"])
    # Two tests, two depths: the first depth of generation counts.
    results = [
        {"recipe": name, "test": test, "depth": depth, "median": m, "low": m - 1, "high": m + 1}
        for name in ("q2", "q3")
        for test, depth, m in [("pp512", 0, 900), ("tg128", 64, 10), ("tg128", 0, 50)]
    ]
    table = pd.DataFrame({"recipe": ["q2", "q3", "bad"], "score": [0.9, 0.4, None]})
    speed = {"results": results, "settings": {"threads": 2}}
    speed |= {"load": {"median": 0.5, "low": 0.1, "high": 1.5}}
    found = answer.answers(table, pairs(), memory, speed, [1_200_000, 2_150_000])
    assert [(a["n_ctx"], a["budget_bytes"], a["recipe"]) for a in found] == [
        (100, 1_200_000, "q2"),
        (100, 2_150_000, "q3"),
        (200, 1_200_000, None),
        (200, 2_150_000, "q2"),
    ]
    assert {a["kv_type"] for a in found} == {"f16"}
    contenders = answer.contenders(table, memory, speed, 100)
    assert [r.speed for r in contenders] == [(50, 49, 51)] * 2
    text = answer.markdown(found, "title", speed)
    assert "While 2 threads were timed, other programs kept 0.5 cores busy (0.1 to 1.5)." in text
    busy = speed | {"load": {"median": 0.51, "low": 0.1, "high": 1.5}}  # over 25 % of 2 threads
    assert [r.speed for r in answer.contenders(table, memory, busy, 100)] == [None] * 2
    assert "these speeds decide nothing" in answer.markdown(found, "title", busy)
    assert len([line for line in text.splitlines() if line.startswith("|")]) == 6
    with pytest.raises(QuernError, match="same contexts"):
        answer.contexts(
            {"a": memory_of("a", 1, contexts[:1]), "b": memory_of("b", 1, contexts[2:])}
        )


def test_a_recipe_s_memory_is_that_of_its_own_type_of_cache():
    memory = {
        "q2": memory_of("q2", 1 * MB, [(1000, "f16"), (1000, "q8_0")]),
        "q3": memory_of("q3", 2 * MB, [(1000, "q8_0"), (1000, "f16")]),
    }
    table = pd.DataFrame({"recipe": ["q2", "q3"], "score": [0.9, 0.4]})
    found = answer.answers(table, pairs(), memory, None, [1_000_000, 2_100_000, 2_600_000])
    assert [(a["recipe"], a["kv_type"]) for a in found] == [
        (None, "f16"),
        ("q2", "f16"),
        ("q3", "q8_0"),
    ]
    text = answer.markdown(found, "title")
    assert "a f16 or q8_0 KV cache" in text and "| cache |" in text.replace("  ", "")


@pytest.mark.parametrize(
    ("n", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (999_600, "1 MB"),
     (4_312_345_678, "4.31 GB"), (24 * 10**9, "24 GB"), (1_500 * 10**9, "1.5 TB")],
)  # fmt: skip
def test_sizes(n, text):
    assert sizes.shown(n) == text
