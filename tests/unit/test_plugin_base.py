"""Dotted paths into a record, and where a plugin finds its text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quern.plugin_base import DataSourcePluginBase, at_path

KEYS = st.text(st.characters(exclude_characters=".", codec="utf-8"), min_size=1, max_size=5)
NAMES = KEYS.filter(lambda key: not key.isdigit())
STEPS = NAMES | st.integers(0, 4).map(str)
RECORDS = st.recursive(
    st.integers() | st.text(max_size=5) | st.none(),
    lambda inner: st.dictionaries(KEYS, inner, max_size=3) | st.lists(inner, max_size=3),
    max_leaves=12,
)


def places(value, path=()):
    """Every path into nested dicts and lists, and what lies there."""
    if path:
        yield ".".join(path), value
    steps = enumerate(value) if isinstance(value, list) else ()
    steps = value.items() if isinstance(value, dict) else steps
    for key, inner in steps:
        yield from places(inner, (*path, str(key)))


@given(record=st.dictionaries(KEYS, RECORDS, min_size=1, max_size=3))
def test_a_path_leads_to_what_lies_there(record):
    found = dict(places(record))
    for path, value in found.items():
        assert at_path(record, path) is value


@given(record=RECORDS, path=st.lists(STEPS, min_size=1, max_size=3).map(".".join))
def test_a_path_that_is_not_among_them_leads_nowhere(record, path):
    known = dict(places(record))
    if path in known:
        assert at_path(record, path) is known[path]
        return
    with pytest.raises(LookupError, match="no field"):
        at_path(record, path)


def test_a_list_ends_where_it_ends():
    record = {"turns": [{"text": "a"}, {"text": "b"}], "pair": ("x", "y")}
    assert at_path(record, "turns.1.text") == "b" and at_path(record, "pair.0") == "x"
    for path in ("turns.2", "turns.-1", "turns.text", "turns.1.text.0", "pair.2", ""):
        with pytest.raises(LookupError, match=f"no field {path}; it has turns, pair"):
            at_path(record, path)


def test_what_there_is_instead_is_said():
    for record, said in (
        ({"title": 1, "body": {"text": "a"}}, "no field content; it has title, body"),
        ({}, "no field content; it has no fields"),
        (["a"], "no field content; it has the type list"),
        ("some text", "no field content; it has the type str"),
        (None, "no field content; it has the type NoneType"),
    ):
        with pytest.raises(LookupError, match=f"^{said}$"):
            at_path(record, "content")


class Letters(DataSourcePluginBase):
    schema = {"content": "letter.body"}  # noqa: RUF012

    def load_data(self, lang, num_samples=200, skip_samples=0):
        letters = [{"letter": {"body": f"{lang} {i}"}} for i in range(10)]
        return letters[skip_samples : skip_samples + num_samples]


class Plain(DataSourcePluginBase):
    def load_data(self, lang, num_samples=200, skip_samples=0):
        return [{"text": lang, "other": "else"}]


def test_a_plugin_finds_its_text_by_its_schema():
    plugin = Letters()
    found = [plugin.get_content(record) for record in plugin.load_data("en", 2, 3)]
    assert found == ["en 3", "en 4"]
    with pytest.raises(LookupError, match=r"no field letter\.body; it has text"):
        plugin.get_content({"text": "en"})


def test_a_plugin_without_a_schema_has_its_text_in_text():
    (record,) = Plain().load_data("de")
    assert Plain().get_content(record) == "de"


def test_options_are_kept_and_may_give_another_schema():
    plugin = Plain("mine", schema={"content": "other"}, folder="somewhere")
    (record,) = plugin.load_data("de")
    assert plugin.get_content(record) == "else"
    assert plugin.name == "mine" and plugin.kwargs["folder"] == "somewhere"
    assert Plain.schema == Plain().schema == {"content": "text"}


def test_a_plugin_must_load_something():
    class Empty(DataSourcePluginBase):
        pass

    with pytest.raises(TypeError, match="load_data"):
        Empty()


@pytest.mark.parametrize("key", ["²", "٣", "-1", "2", "1.0"])
def test_what_only_looks_like_a_number_is_no_index(key):
    with pytest.raises(LookupError, match="no field"):
        at_path(["a", "b"], key)
