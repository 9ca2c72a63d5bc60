"""Chat templates: rendered as the model sees them, in a sandbox."""

import pytest

from quern import QuernError
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
    rendered = ChatTemplate("m", source, eos_token="</s>").renderer()("é\n")
    assert rendered == '{"role": "user", "content": "é\\n"}01 Jan 2024</s>'
