"""What a configuration says of evaluations."""

from quern.measure.evaluation import Evaluation, evaluations_of

CONFIG = {
    "corpora": {"wiki": {}, "code": {}},
    "evaluation": {
        "corpora": ["code"],
        "n_ctx": 256,
        "windows": 6,
        "scored": "half",
        "store": "hidden",
        "logits_type": "float16",
        "embed_output": True,
        "until": None,
        "kv": None,
    },
    "evaluations": {
        "long": {"corpus": "wiki", "part": "evaluation", "n_ctx": 4096, "windows": None},
        "pool": {"corpus": "wiki", "part": "pool", "scored": "all"},
    },
}
STORED = {"store": "hidden", "logits_type": "float16", "embed_output": True}


def test_each_corpus_stands_for_itself():
    found = evaluations_of(CONFIG)
    assert [*found] == ["wiki", "code", "long", "pool"]
    assert found["code"] == Evaluation("code", n_ctx=256, windows=6, **STORED)


def test_what_is_left_out_is_as_in_evaluation():
    found = evaluations_of(CONFIG)
    assert found["long"] == Evaluation("wiki", n_ctx=4096, windows=None, **STORED)
    assert found["pool"] == Evaluation("wiki", "pool", 256, 6, "all", **STORED)


def test_the_options_are_those_of_the_baseline_before_there_were_evaluations():
    options = evaluations_of(CONFIG)["code"].options
    keys = ("n_ctx", "windows", "scored", "store", "logits_type", "embed_output")
    assert options == {key: CONFIG["evaluation"][key] for key in keys}
