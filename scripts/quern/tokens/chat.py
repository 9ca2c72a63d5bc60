"""A model's own chat template, from its GGUF, and how it renders texts."""

import contextlib
import functools
import hashlib
import json
import re
import signal
import threading
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import jinja2
from gguf import TokenType
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

from .. import QuernError, gguf_files
from ..corpus import conversations

KEY = "tokenizer.chat_template"
SECONDS = 10.0  # that a document may take
LARGEST = 1 << 24  # characters of a text that is repeated


# Special tokens as templates name them, and as GGUF does.
_SPECIAL = {
    "bos_token": "bos",
    "eos_token": "eos",
    "unk_token": "unknown",
    "sep_token": "seperator",
    "pad_token": "padding",
    "cls_token": "cls",
    "mask_token": "mask",
}
_JOINER = "\u2060"  # a character of no width, which keeps a token's text from being that token


@dataclass(frozen=True)
class ChatTemplate:
    """A template in Jinja, and the texts of the tokens that it may name.

    Attributes:
        model: the file it is from.
        source: the template.
        special: how the model writes special tokens, by the names that templates use.
        controls: the texts of all tokens that end and begin messages and the like.
        neutralize: let such texts within messages stay texts.
    """

    model: str
    source: str
    special: dict[str, str] = field(default_factory=dict)
    controls: tuple[str, ...] = ()
    neutralize: bool = False

    @classmethod
    def read(cls, model: Path, *, neutralize: bool = False) -> "ChatTemplate":
        """The template of a GGUF (of its first shard).

        Raises:
            QuernError: it has none.
        """
        reader = gguf_files.open_gguf(model)
        source = gguf_files.field(reader, KEY)
        if not source:
            raise QuernError(f"{model} has no chat template ({KEY}); set chat_template to false.")
        tokens = gguf_files.field(reader, "tokenizer.ggml.tokens", [])
        kinds = gguf_files.field(reader, "tokenizer.ggml.token_type", [])
        numbers = {
            name: gguf_files.field(reader, f"tokenizer.ggml.{key}_token_id")
            for name, key in _SPECIAL.items()
        }
        special = {name: tokens[n] for name, n in numbers.items() if n is not None}
        pairs = zip(tokens, kinds, strict=False)
        controls = tuple(text for text, kind in pairs if kind == TokenType.CONTROL and text)
        return cls(str(model), source, special, controls, neutralize)

    @property
    def sha256(self) -> str:
        """Of the template, and whether texts of special tokens are neutralized."""
        content = self.source + ("\0neutral" if self.neutralize else "")
        return hashlib.sha256(content.encode()).hexdigest()

    def renderer(self):
        """A function of a document that gives it as the model sees it in use.

        That is a conversation or a user's message. Where the last message is not an answer, the
        text ends with what begins one.

        Templates are others' programs: they run in Jinja's sandbox, with what the `transformers`
        library gives them besides: the conversation's tools, documents, which are None, tojson,
        raise_exception, strftime_now, break and continue, and generation blocks.

        Raises:
            QuernError: the template is not Jinja. The function raises it where the template does.
        """
        environment = _Sandbox(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", _Generation],
        )
        environment.filters["tojson"] = _json
        environment.globals |= {"raise_exception": _refuse, "strftime_now": _today}
        try:
            template = environment.from_string(self.source)
        except jinja2.TemplateError as error:
            raise self._fails(error) from None

        def render(document: str) -> str:
            messages, tools = conversations.messages(document), conversations.tools(document)
            if self.neutralize:
                messages, tools = self._neutral(messages), self._neutral(tools)
            try:
                with _time_limit(SECONDS):
                    return template.render(
                        messages=messages,
                        tools=tools or None,
                        documents=None,
                        add_generation_prompt=messages[-1]["role"] != "assistant",
                        **self.special,
                    )
            except (jinja2.TemplateError, TypeError, ValueError, LookupError) as error:
                raise self._fails(error) from None
            except (ArithmeticError, AttributeError, RecursionError, MemoryError) as error:
                raise self._fails(error) from None

        return render

    def mentions(self, document: str) -> str:
        """The first text of a control token in a document; it becomes that token. Or nothing."""
        found = self.controls and self._pattern.search(document)
        return found[0] if found else ""

    @functools.cached_property
    def _pattern(self) -> re.Pattern:
        texts = sorted(self.controls, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, texts)))

    def _neutral(self, value):
        """What messages hold, with texts of control tokens broken by a character of no width."""
        if isinstance(value, str):
            return self._pattern.sub(_broken, value) if self.controls else value
        if isinstance(value, list):
            return [self._neutral(item) for item in value]
        if isinstance(value, dict):
            return {key: self._neutral(item) for key, item in value.items()}
        return value

    def _fails(self, error: Exception) -> QuernError:
        return QuernError(f"the chat template of {self.model} fails ({error}).")


def _broken(found: re.Match) -> str:
    return found[0][0] + _JOINER + found[0][1:]


class _Generation(Extension):
    """`{% generation %}` … `{% endgeneration %}`, by which training marks answers."""

    tags = frozenset({"generation"})

    def parse(self, parser) -> nodes.Node:
        """The block's content, as it is."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, in which nothing can be multiplied into a flood of text."""

    intercepted_binops = frozenset(["*", "**"])

    def call_binop(self, context, operator, left, right):
        sizes = [len(x) if hasattr(x, "__len__") else abs(x) for x in (left, right)]
        if operator == "**" and (sizes[0] > 1000 or sizes[1] > 64):
            raise jinja2.TemplateError("a power is too large")
        repeats = operator == "*" and any(hasattr(x, "__len__") for x in (left, right))
        if repeats and sizes[0] * sizes[1] > LARGEST:
            raise jinja2.TemplateError("a text is repeated too often")
        return super().call_binop(context, operator, left, right)


@contextlib.contextmanager
def _time_limit(seconds: float):
    """End the block with an error after some time; only where signals are received."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_):
        raise jinja2.TemplateError(f"it takes more than {seconds:g} s for one document")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _json(value, **options) -> str:
    return json.dumps(value, ensure_ascii=False, **options)


def _refuse(message: str):
    raise jinja2.TemplateError(message)


def _today(form: str) -> str:
    if len(form) > 200 or re.search(r"%\W*\d", form):
        raise jinja2.TemplateError(f"strftime_now({form[:20]!r}…) is no form of a date")
    # One day for ever: the same text must give the same tokens.
    return datetime(2024, 1, 1).strftime(form)
