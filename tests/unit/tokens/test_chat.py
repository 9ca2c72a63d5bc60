"""Chat templates: rendered as the model sees them, in a sandbox."""

import pytest

from quern import QuernError
from quern.corpus import conversations
from quern.tokens.chat import ChatTemplate


def test_a_model_without_a_template(made):
    with pytest.raises(QuernError, match=r"dense.gguf has no chat template"):
        ChatTemplate.read(made / "dense.gguf")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{% for %}", "the chat template of m fails"),
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[7]['content'] }}", "fails"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
    ],
)
def test_a_template_that_fails(source, words):
    with pytest.raises(QuernError, match=words):
        ChatTemplate("m", source).renderer()("text")


def test_what_templates_may_use():
    source = (
        "{%- for m in messages -%}{{ m | tojson }}{% break %}{%- endfor -%}"
        "{{ strftime_now('%d %b %Y') }}{{ eos_token }}"
    )
    rendered = ChatTemplate("m", source, {"eos_token": "</s>"}).renderer()("é\n")
    assert rendered == '{"role": "user", "content": "é\\n"}01 Jan 2024</s>'


def rendered(source, messages, **more):
    return ChatTemplate("m", source, **more).renderer()(conversations.pack(messages))


def test_messages_reach_the_template_whole():
    source = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}"
        "{% for c in m.tool_calls or [] %}<{{ c.function.name }}>{% endfor %}"
        "{{ m.reasoning_content }}{{ m.name }};{% endfor %}"
    )
    calls = [{"function": {"name": "add"}}]
    talked = [{"role": "assistant", "content": "a", "tool_calls": calls, "reasoning_content": "b"}]
    talked.append({"role": "tool", "content": "2", "name": "add"})
    assert rendered(source, talked) == "assistant: a<add>b;tool: 2add;"


def test_generation_blocks_and_what_is_none():
    source = (
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
        "{{ tools is none and documents is none }}{{ bos_token is defined }}"
    )
    assert rendered(source, [{"role": "user", "content": "a"}]) == "aTrueFalse"


def test_texts_of_control_tokens_can_stay_texts():
    source = "{% for m in messages %}<|im|>{{ m.content[0].text }}{% endfor %}"
    talked = [{"role": "user", "content": [{"text": text}]} for text in ("x<|im|>y", "z")]
    plain, neutral = (
        ChatTemplate("m", source, controls=("<|im|>",), neutralize=n) for n in (False, True)
    )
    document = conversations.pack(talked)
    assert plain.mentions(document) == "<|im|>" and not plain.mentions("<|")
    assert plain.renderer()(document).count("<|im|>") == 3
    assert neutral.renderer()(document).count("<|im|>") == 2
    assert "x<\u2060|im|>y" in neutral.renderer()(document)
    assert plain.sha256 != neutral.sha256
