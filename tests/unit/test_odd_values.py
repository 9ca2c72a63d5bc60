"""Whatever a configuration says, reading it ends soon, in a value or in a sentence."""

import contextlib
import copy
import itertools

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import HOUSE
from quern import QuernError, configuration
from quern.corpus import sources
from quern.growth.ladder import ladder
from quern.imatrix.calibration import calibrations_of
from quern.measure.evaluation import baselines_of, cache_evaluations_of, evaluations_of
from quern.quantize.recipes import recipes_of
from quern.sizes import Size
from quern.studies.kinds import plans

SCHEMA = yaml.safe_load((HOUSE / "config/config.schema.yaml").read_text(encoding="utf-8"))
CONFIG = {
    "models": {"tiny": "tiny.gguf"},
    "corpora": {"wiki": {"sources": [{"name": "wiki", "path": "wiki.txt"}]}},
    "evaluation": {"corpora": ["wiki"], "kv": {}, "until": {"within": 0.1}},
    "evaluations": {"long": {"corpus": "wiki"}},
    "calibrations": {"mixed": {"corpus": "wiki"}},
    "studies": {
        "context": {"kind": "context", "corpus": "wiki"},
        "datasets": {"kind": "datasets", "corpora": ["wiki"]},
        "order": {"kind": "order", "corpus": "wiki"},
        "subsampling": {"kind": "subsampling", "corpus": "wiki"},
    },
    "growth": {},
    "quantize": [
        {"types": ["Q4_K_M"], "imatrix": ["wiki"]},
        {"mix": {"size": "4 bpw", "fixed": {"attn_v": "Q6_K"}}},
        {"like": ["theirs.gguf"]},
    ],
}
NINES = "9" * 400


def at(tree, keys):
    """What stands at these keys; None where nothing does."""
    for key in keys:
        try:
            tree = tree[key]
        except (KeyError, IndexError, TypeError):
            return None
    return tree


def places(schema, keys=()):
    """The places of a configuration that the schema describes, and how."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].split("/")[-1]] | schema
    yield keys, schema
    there = at(CONFIG, keys)
    for key, inner in schema.get("properties", {}).items():
        yield from places(inner, (*keys, key))
    if isinstance(schema.get("additionalProperties"), dict):
        for name in there or ["x"]:
            yield from places(schema["additionalProperties"], (*keys, name))
    if "items" in schema:
        for i in range(len(there) if isinstance(there, list) else 1):
            yield from places(schema["items"], (*keys, i))
    for inner in schema.get("anyOf", ()):
        yield from places(inner, keys)
    for inner in schema.get("allOf", ()):
        kind = at(inner, ["if", "properties", "kind", "const"])
        if kind and keys[-1] == kind:
            yield from places(inner["then"], keys)


PLACES = [place for place in places(SCHEMA) if place[0]]


def odd(schema):
    """Values that somebody may write there: at the limits, beyond them, of another type."""
    others = [None, True, -1, 0, 1, 1.0000001, 10**14, 10**400, float("inf"), float("nan"), [], {}]
    texts = ["", "0", "0B", "0 bpw", "1B", "as FOO", "as IQ1_S", NINES, f"{NINES}GB", "1e999"]
    names = ["{lang}", "{}", "-x", "\n", "\0", "٣", "a=b", "(", r"\D", "x-00001-of-99999.gguf"]
    trees = ["wiki", ["wiki"], ["wiki", "wiki"], {"as": "Q4_K_M"}, {"as": []}, {"x": "Q8_0"}]
    of = st.sampled_from(others + texts + names + trees)
    limits = [schema[key] for key in schema.keys() & {"minimum", "maximum", "exclusiveMinimum"}]
    values = [limit + more for limit in limits for more in (-1, 0, 1e-9, 1)]
    values += [v for v in schema.get("enum", ()) if v != "path"] + [schema.get("default")]
    return st.one_of(of, st.sampled_from(values), st.text(max_size=8))


def put(config, keys, value):
    """Let a value stand at these keys."""
    for key, following in itertools.pairwise(keys):
        if at(config, [key]) is None:
            config[key] = [None] if isinstance(following, int) else {}
        config = config[key]
    config[keys[-1]] = value


def read(config):
    """All that the rules make of a configuration before any job runs."""
    configuration.check(config, SCHEMA, [])
    for corpus in config["corpora"].values():
        for entry in corpus["sources"]:
            for source in sources.expand(entry):
                sources.facts_name(source)
    recipes = recipes_of(config)
    for recipe in recipes.values():
        assert len(recipe.name) < 2000 and recipe.cannot_fix({"blk.0.attn_v.weight": 256}) == ""
    evaluations = evaluations_of(config) | {
        name: e for of in cache_evaluations_of(config).values() for name, e in of.items()
    }
    baselines_of(evaluations)
    calibrations_of(config)
    plans(config)
    Size.parse_bytes(config["moments"]["memory"])
    for size in [*(config["report"]["budgets"] or []), config["release"]["split"] or "1B"]:
        Size.parse_bytes(size)
    if growth := config["growth"]:
        ends = (growth["first_tokens"], growth["factor"], growth["largest_tokens"])
        list(itertools.islice(ladder(*ends, config["imatrix"]["n_ctx"]), 30))


def test_the_configuration_that_odd_values_are_put_into_can_be_read():
    read(copy.deepcopy(CONFIG))
    assert len({keys for keys, _ in PLACES}) > 150


@settings(max_examples=200, deadline=2000, derandomize=True)
@given(st.data())
def test_an_odd_value_ends_in_a_value_or_a_sentence(data):
    config = copy.deepcopy(CONFIG)
    for _ in range(data.draw(st.integers(1, 2))):
        keys, schema = data.draw(st.sampled_from(PLACES))
        with contextlib.suppress(TypeError, IndexError):  # the first value leaves no place for it
            put(config, keys, data.draw(odd(schema)))
    try:
        read(config)
    except QuernError as error:
        assert len(str(error)) < 2500
