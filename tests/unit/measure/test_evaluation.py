"""What a configuration says of evaluations."""

from quern.measure.evaluation import (
    Evaluation,
    baselines_of,
    cache_evaluations_of,
    evaluations_of,
)

CONFIG = {
    "corpora": {"wiki": {}, "code": {}},
    "evaluation": {
        "corpora": ["code"],
        "n_ctx": 256,
        "windows": 6,
        "scored": "half",
        "store": "hidden",
        "logits_type": "float16",
        "until": None,
        "kv": None,
    },
    "evaluations": {
        "long": {"corpus": "wiki", "part": "evaluation", "n_ctx": 4096, "windows": None},
        "pool": {"corpus": "wiki", "part": "pool", "scored": "all"},
    },
}
STORED = {"store": "hidden", "logits_type": "float16"}


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
    keys = ("n_ctx", "windows", "scored", "store", "logits_type")
    assert options == {key: CONFIG["evaluation"][key] for key in keys}


def test_types_of_the_cache_are_evaluations_that_share_a_baseline():
    kv = {"types": ["f16", "q4_0"], "flash": ["auto", "none"], "n_ctx": 4096, "windows": 8}
    config = CONFIG | {"evaluation": CONFIG["evaluation"] | {"kv": kv}}
    added = cache_evaluations_of(config)
    assert added.keys() == {"code"}
    names = ["code-kv-f16", "code-kv-f16-without-flash", "code-kv-q4_0"]
    assert list(added["code"]) == names
    last = Evaluation("code", n_ctx=4096, windows=8, kv_type="q4_0", **STORED)
    assert added["code"]["code-kv-q4_0"] == last
    known = evaluations_of(config)
    assert baselines_of(known | added["code"]) == {
        **{name: name for name in known},
        **dict.fromkeys(names, "code-kv-f16"),
    }
    assert cache_evaluations_of(CONFIG) == {}


def test_a_quantized_cache_needs_flash_attention():
    assert "q8_0 needs flash" in Evaluation("code", kv_type="q8_0", flash="none").objection
    assert not Evaluation("code", kv_type="q8_0").objection
    assert not Evaluation("code", kv_type="bf16", flash="none").objection
