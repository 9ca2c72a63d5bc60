"""The schema names what is wrong and where."""

import copy

import pytest
import yaml

from conftest import HOUSE
from quern import QuernError, configuration
from quern.corpus.sources import expand

SCHEMA = yaml.safe_load((HOUSE / "config/config.schema.yaml").read_text())
TEXT = (HOUSE / "config/config.yaml").read_text()


def check(tmp_path, text):
    (tmp_path / "c.yaml").write_text(text)
    config = yaml.safe_load(text)
    configuration.check(config, copy.deepcopy(SCHEMA), [tmp_path / "c.yaml"])
    return config


def test_the_demo_is_valid_and_defaults_are_filled(tmp_path):
    config = check(tmp_path, TEXT)
    assert config["evaluation"]["scored"] == "half"
    assert config["evaluation"]["until"] is None
    assert config["imatrix"]["unreached"] == "neutral"
    assert config["growth"]["min_gain"] == 0.01
    assert config["corpora"]["python"]["seed"] == 0
    assert config["quantize"][0]["pure"] is False


def test_the_examples_are_valid(tmp_path):
    for path in (HOUSE / "config/examples").glob("*.yaml"):
        config = check(tmp_path, path.read_text())
        for corpus in config["corpora"].values():
            found = [source for entry in corpus["sources"] for source in expand(entry)]
            assert len(found) >= len(corpus["sources"])


def line_of(word):
    return next(i for i, line in enumerate(TEXT.splitlines(), 1) if word in line)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("  n_ctx: 512\n  windows: 40", "  n_ctxt: 512", ["evaluation.n_ctxt", "unknown key"]),
        ("windows: 40", "windows: many", ["evaluation.windows", "'many' is not of type"]),
        ("  demo: res", "  corpora: res", ["models", "the name 'corpora' is reserved"]),
        ("imatrix: [none, python]", "imatrix: python", ["quantize.0.imatrix", "not of type"]),
        ("field: text", "feild: text", ["corpora.python.sources.0.feild", "known are name"]),
    ],
)
def test_a_wrong_key_is_named_with_its_line(tmp_path, old, new, words):
    with pytest.raises(QuernError) as error:
        check(tmp_path, TEXT.replace(old, new, 1))
    for word in [*words, "c.yaml, line "]:
        assert word in str(error.value)


def test_the_line_is_the_right_one(tmp_path):
    with pytest.raises(QuernError, match=f"line {line_of('windows: 40')}: "):
        check(tmp_path, TEXT.replace("windows: 40", "windows: -3"))


def test_every_key_is_documented():
    guide = (HOUSE / "config/README.md").read_text()

    def keys(schema):
        for key, sub in schema.get("properties", {}).items():
            yield key
            yield from keys(sub)
        for inner in ("items", "additionalProperties"):
            if isinstance(schema.get(inner), dict):
                yield from keys(schema[inner])

    missing = [key for key in keys(SCHEMA) if f"`{key}`" not in guide]
    assert not missing


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: {c: 1, d: 2, c: 3}\n", "the key c stands in line 2 and again in line 2"),
        (
            "quantize: []\na: 1\nquantize: []\n",
            "the key quantize stands in line 1 and again in line 3",
        ),
        ("a: {n_ctx: 0512}", "c.yaml, line 1: 0512 is 330 in YAML"),
        ("a: [1:30]", "line 1: 1:30 is 90 in YAML"),
    ],
)
def test_yaml_that_means_something_else(tmp_path, text, words):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(QuernError, match=words):
        configuration.check({}, {}, [tmp_path / "c.yaml"])


def test_yaml_that_means_what_it_says(tmp_path):
    text = "a: &x {b: 1, c: '0512'}\nd: {<<: *x, <<: *x, e: 0}\nf: 0.5\ng: 2026-01-02\n"
    (tmp_path / "c.yaml").write_text(text)
    configuration.check({}, {}, [tmp_path / "c.yaml"])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "min_gain: 0.01",
            "min_gain: 1e-3",
            "growth.min_gain: .*; it is text in YAML, write 0.001",
        ),
        ("field: text", "field: no", "field: False .*; write it in quotes, since YAML reads bool"),
        ("  demo: res", "  1.5: res", "models: 1.5 is not of type 'string'; write it in quotes"),
    ],
)
def test_how_to_write_what_was_meant(tmp_path, old, new, words):
    text = TEXT if old in TEXT else TEXT.replace("growth:", f"growth:\n  {old}", 1)
    assert old in text
    with pytest.raises(QuernError, match=words):
        check(tmp_path, text.replace(old, new, 1))


def test_texts_from_the_command_line(tmp_path):
    (tmp_path / "c.yaml").write_text(TEXT)

    def checked(overrides):
        config = yaml.safe_load(TEXT)
        for key, values in overrides.items():
            config[key] |= values
        configuration.check(config, copy.deepcopy(SCHEMA), [tmp_path / "c.yaml"], overrides)
        return config

    config = checked({"evaluation": {"windows": "6"}, "imatrix": {"output_weight": "true"}})
    assert config["evaluation"]["windows"] == 6 and config["imatrix"]["output_weight"] is True
    assert checked({"evaluation": {"windows": "null"}})["evaluation"]["windows"] is None
    with pytest.raises(QuernError, match=r"^--config: evaluation\.windows: 'six' is not"):
        checked({"evaluation": {"windows": "six"}})
    with pytest.raises(QuernError, match=r"^--config: evaluation\.windows: 1 is less"):
        checked({"evaluation": {"windows": "1"}})


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("quantize: [{mix: {size: as FOO}}]", "size: llama.cpp knows no type FOO"),
        ("quantize: [{mix: {size: 0 bpw}}]", "size: 0 bpw is no size of weights"),
        (f"quantize: [{{mix: {{size: [1GB, '{'9' * 400}']}}}}]", "size.1: '9{40}' is no size"),
        (f"quantize: [{{mix: {{size: {'9' * 400}}}}}]", "size: it has more than 15 digits"),
        ("quantize: [{like: ''}]", "like: '' should be non-empty"),
        ("release: {split: 0B}", "split: 0B is no size of a file"),
        ("moments: {memory: 4 bpw}", "memory: 4 bpw is no number of bytes"),
        ("growth: {factor: 1.0000001}", "factor: 1.0000001 is less than the minimum of 1.05"),
    ],
)
def test_what_could_never_work_is_refused_where_it_stands(tmp_path, section, words):
    config = {key: value for key, value in yaml.safe_load(TEXT).items() if key not in section}
    with pytest.raises(QuernError, match=rf"c\.yaml, line 1: \w+\.[0-9a-z.]*{words}"):
        check(tmp_path, f"{section}\n{yaml.safe_dump(config)}")


def test_brackets_without_end_are_a_sentence(tmp_path):
    (tmp_path / "c.yaml").write_text("a: " + "[" * 50_000)
    with pytest.raises(QuernError, match="is nested too deeply"):
        configuration.check({}, {}, [tmp_path / "c.yaml"])


def test_what_is_secret_is_not_repeated(tmp_path):
    source = "{name: s, kind: plugin, path: p.py, options: sk-012345}"
    text = TEXT.replace("- name: prose", f"- {source}\n      - name: prose")
    with pytest.raises(QuernError, match=r"options: .*it must be object") as error:
        check(tmp_path, text)
    assert "sk-" not in str(error.value)
