"""Conversations: from every kind of source, through a chat template, or as plain text."""

import json

import h5py
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import command, fails_with
from models import write_model
from quern import QuernError, files, gguf_files
from quern.corpus import build, conversations, sample_store, sources
from quern.corpus.readers import documents
from quern.corpus.sources import Source
from quern.tokens.chat import ChatTemplate

PLUGIN = """
from quern.plugin_base import DataSourcePluginBase

class Talks(DataSourcePluginBase):
    schema = {"content": "turns"}

    def load_data(self, lang, num_samples=200, skip_samples=0):
        return [{"turns": [{"from": "human", "value": f"{lang}?"}, {"from": "gpt", "value": "!"}]}]
"""
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
content = st.text(st.characters(exclude_categories=["Cs"]))


def talk(i):
    return [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": f"What is {i} + {i}?\n\nSay why."},
        {"role": "assistant", "content": f"{2 * i}, since it is twice {i}." + " So it is." * 20},
    ]


def flat(i):
    return "\n\n".join(message["content"] for message in talk(i))


@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), content), min_size=1))
def test_what_is_packed_comes_back(turns):
    talked = [{"role": role, "content": text} for role, text in turns]
    packed = conversations.pack(talked)
    if any(text.strip() for _, text in turns):
        assert conversations.messages(packed) == talked
    else:
        assert packed == ""


def test_messages_stay_whole():
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    talked = [
        {"role": "user", "content": [{"type": "text", "text": "1 + 1?"}, {"type": "image"}]},
        {"role": "assistant", "tool_calls": [call], "reasoning_content": "hm"},
        {"role": "tool", "content": "2", "tool_call_id": "x", "name": "add"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]
    packed = conversations.pack(talked)
    assert conversations.messages(packed) == talked
    assert conversations.plain(packed) == "1 + 1?\n\n2"


def test_names_of_roles_that_data_sets_use(caplog):
    names = {"User": "user", "GPT": "assistant", "Assistant": "assistant", "observation": "tool"}
    conversations._role.cache_clear()
    for name, role in names.items():
        packed = conversations.pack([{"from": name, "value": "a", "weight": 1}])
        assert conversations.messages(packed) == [{"role": role, "content": "a", "weight": 1}]
        assert f"the role {name!r} is taken for {role!r}" in caplog.text
    packed = conversations.pack([{"role": "narrator", "content": "a"}])
    assert conversations.messages(packed) == [{"role": "narrator", "content": "a"}]


@given(st.text("\x02\x03[]{}a", max_size=6) | content)
def test_a_text_is_a_users_message(text):
    packed = conversations.packed(text)
    assert conversations.messages(packed) == [{"role": "user", "content": text.strip()}]
    assert conversations.plain(packed) == text.strip()


def test_control_characters_in_prose_are_prose(tmp_path):
    prose = ["shown \x02lost text\x03 kept", "\x02user\x03 first", '\x02[{"role": "user"}]']
    (tmp_path / "f.txt").write_text("\n--\n".join(prose))
    found = list(documents(Source("s", str(tmp_path / "f.txt"), separator="\n--\n")))
    assert [conversations.plain(text) for text in found] == prose
    assert [conversations.messages(text)[0]["content"] for text in found] == prose


def test_a_conversation_as_json_in_a_column(tmp_path):
    lines = [json.dumps({"text": text}) for text in (json.dumps(talk(1)), "[1, 2]", "[sic] a")]
    (tmp_path / "f.jsonl").write_text("\n".join(lines))
    found = list(documents(Source("s", str(tmp_path / "f.jsonl"))))
    assert conversations.messages(found[0]) == talk(1)
    assert found[1:] == ["[1, 2]", "[sic] a"]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_list_of_messages_in_a_file(tmp_path, ending):
    records = [{"chat": {"messages": talk(i)}} for i in range(3)]
    path = tmp_path / f"talks.{ending}"
    if ending == "parquet":
        pd.DataFrame(records).to_parquet(path)
    else:
        path.write_text("\n".join(map(json.dumps, records)))
    found = list(documents(Source("s", str(path), field="chat.messages")))
    assert [conversations.messages(text) for text in found] == [talk(i) for i in range(3)]
    assert [conversations.plain(text) for text in found] == [flat(i) for i in range(3)]


TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
@pytest.mark.parametrize("form", ["list", "text", "texts"])
def test_tools_and_system_beside_messages_reach_the_template(tmp_path, ending, form):
    """A table fills in None for what other tools have; the system's own message stays."""
    tools = {"list": [TOOL, {"type": "code"}], "text": json.dumps([TOOL]), "texts": ["{}"]}[form]
    records = [
        {"talk": talk(1)[1:2], "tools": tools, "system": "Be exact.", "id": 1},
        {"talk": talk(2), "tools": tools[:0], "system": "Be exact.", "id": 2},
    ]
    path = tmp_path / f"talks.{ending}"
    if ending == "parquet":
        pd.DataFrame(records).to_parquet(path)
    else:
        path.write_text("\n".join(map(json.dumps, records)))
    first, second = documents(Source("s", str(path), field="talk"))
    expected = {"list": [TOOL, {"type": "code"}], "text": [TOOL], "texts": [{}]}[form]
    assert conversations.tools(first) == expected and conversations.tools(second) == []
    assert conversations.messages(first) == [
        {"role": "system", "content": "Be exact."},
        *talk(1)[1:2],
    ]
    assert conversations.messages(second) == talk(2)
    template = "{% if tools %}{{ tools | tojson }}{% endif %}" + TEMPLATE
    render = ChatTemplate("m", template).renderer()
    assert render(first).startswith(json.dumps(expected) + "<system>Be exact.\n<user>")
    assert render(second).startswith("<system>Be brief.")


def test_tools_that_are_none_are_said(caplog):
    conversations._no_tools.cache_clear()
    packed = conversations.pack(talk(1), {"tools": "a hammer", "system": None})
    assert conversations.tools(packed) == [] and conversations.messages(packed) == talk(1)
    assert "tools of the type str are no list of tools" in caplog.text


@pytest.mark.parametrize("kind", ["dataset", "plugin"])
def test_messages_that_are_fetched(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    turns = [{"from": "human", "value": "en?"}, {"from": "gpt", "value": "!"}]
    path = tmp_path / ("talks" if kind == "dataset" else "talks.py")
    if kind == "plugin":
        path.write_text(PLUGIN)
    else:
        path.mkdir()
        (path / "train.jsonl").write_text(json.dumps({"turns": turns}))
    source = Source("s", str(path), kind=kind, field="turns", plugin_class="Talks", language="en")
    facts = sample_store.fetch(sources.with_content(source), tmp_path / "raw")
    (text,) = documents(Source("s", str(facts), kind="raw"))
    expected = [{"role": "user", "content": "en?"}, {"role": "assistant", "content": "!"}]
    assert conversations.messages(text) == expected


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([1], ".*: message 0 has no role and content; it has int"),
        ([*talk(1), {"role": "user", "text": "a"}], ".*: message 3 has no .*; it has role, text"),
        ([{"role": "user", "content": 1}], "is a list, but .* content of type int, not text or a"),
        ([{"role": 3, "content": "a"}], "is a list, but .* role of type int, not text"),
        ({"role": "user"}, "is dict, not text"),
    ],
)
def test_a_list_that_is_no_conversation(tmp_path, value, words):
    (tmp_path / "f.jsonl").write_text(json.dumps({"chat": value}))
    with pytest.raises(QuernError, match=f"source s: field chat in line 1 of .* {words}"):
        list(documents(Source("s", str(tmp_path / "f.jsonl"), field="chat")))


def test_nothing_said_is_no_document(tmp_path):
    silent = [{"role": "user", "content": ""}, {"role": "assistant", "content": None}]
    lines = [json.dumps({"text": value}) for value in (silent, [], talk(1))]
    (tmp_path / "f.jsonl").write_text("\n".join(lines))
    assert len(list(documents(Source("s", str(tmp_path / "f.jsonl"))))) == 1


def test_an_answer_that_is_given_is_not_asked_for():
    render = ChatTemplate("m", TEMPLATE).renderer()
    assert render("Hello") == "<user>Hello\n<assistant>"
    assert render(conversations.pack(talk(1))).startswith("<system>Be brief.\n<user>What is 1")
    assert not render(conversations.pack(talk(1))).endswith("<assistant>")
    assert render(conversations.pack(talk(1)[:2])).endswith("<assistant>")


@pytest.mark.parametrize("chat_template", [True, False])
def test_conversations_become_tokens(tmp_path, chat_template):
    path = tmp_path / "talks.jsonl"
    path.write_text("\n".join(json.dumps({"text": talk(i)}) for i in range(60)))
    settings = build.CorpusSettings(3000, chat_template=chat_template)
    build.build([Source("s", str(path))], tmp_path / "corpus", settings)
    model = write_model(tmp_path / "m.gguf", chat_template=TEMPLATE)
    files.write_json(tmp_path / "m.json", gguf_files.model_info(model).as_dict())
    line = [
        *("tokens", "--model", model, "--info", tmp_path / "m.json"),
        *("--text", tmp_path / "corpus/pool.txt", "--corpus", tmp_path / "corpus/corpus.json"),
        *("--documents", tmp_path / "corpus/documents.csv"),
        *("--output", tmp_path / "t.h5", "--facts", tmp_path / "t.json"),
    ]
    if chat_template:
        fails_with(command(*line), "corpus corpus was built with --chat-template")
        line.append("--chat-template")
    result = command(*line)
    assert result.returncode == 0, result.stderr
    with h5py.File(tmp_path / "t.h5") as file:
        tokens = file["tokens"][:]
    text = "".join(chr(t) if t < 256 else {257: "e "}.get(t, "") for t in tokens)
    assert "\x02" not in text and "\x03" not in text
    table = pd.read_csv(tmp_path / "corpus/documents.csv")
    count = (table.part == "pool").sum()
    assert count > 20
    assert text.count("<assistant>") == (count if chat_template else 0)
    assert text.count("Be brief.") == count
