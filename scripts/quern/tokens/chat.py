"""A model's own chat template, from its GGUF, and how it renders texts."""

import contextlib
import hashlib
import json
import re
import signal
import threading
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from .. import QuernError, gguf_files
from ..corpus import conversations

KEY = "tokenizer.chat_template"
SECONDS = 10.0  # that a document may take
LARGEST = 1 << 24  # characters of a text that is repeated


@dataclass(frozen=True)
class ChatTemplate:
    """A template in Jinja, and the texts of the tokens that it may name.

    Attributes:
        model: the file it is from.
        source: the template.
        bos_token, eos_token: how the model writes them; empty where it has none.
    """

    model: str
    source: str
    bos_token: str = ""
    eos_token: str = ""

    @classmethod
    def read(cls, model: Path) -> "ChatTemplate":
        """The template of a GGUF (of its first shard).

        Raises:
            QuernError: it has none.
        """
        reader = gguf_files.open_gguf(model)
        source = gguf_files.field(reader, KEY)
        if not source:
            raise QuernError(f"{model} has no chat template ({KEY}); set chat_template to false.")
        tokens = gguf_files.field(reader, "tokenizer.ggml.tokens", [])

        def text(name):
            number = gguf_files.field(reader, f"tokenizer.ggml.{name}_token_id")
            return "" if number is None else tokens[number]

        return cls(str(model), source, text("bos"), text("eos"))

    @property
    def sha256(self) -> str:
        """Of the template."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    def renderer(self):
        """A function of a document that gives it as the model sees it in use.

        That is a conversation or a user's message. Where the last message is not an answer, the
        text ends with what begins one.

        Templates are others' programs: they run in Jinja's sandbox, with what the `transformers`
        library gives them besides (tojson, raise_exception, strftime_now, break and continue).

        Raises:
            QuernError: the template is not Jinja. The function raises it where the template does.
        """
        environment = _Sandbox(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _json
        environment.globals |= {"raise_exception": _refuse, "strftime_now": _today}
        try:
            template = environment.from_string(self.source)
        except jinja2.TemplateError as error:
            raise self._fails(error) from None

        def render(text: str) -> str:
            messages = conversations.messages(text)
            try:
                with _time_limit(SECONDS):
                    return template.render(
                        messages=messages,
                        add_generation_prompt=messages[-1]["role"] != "assistant",
                        bos_token=self.bos_token,
                        eos_token=self.eos_token,
                    )
            except (jinja2.TemplateError, TypeError, ValueError, LookupError) as error:
                raise self._fails(error) from None
            except (ArithmeticError, AttributeError, RecursionError, MemoryError) as error:
                raise self._fails(error) from None

        return render

    def _fails(self, error: Exception) -> QuernError:
        return QuernError(f"the chat template of {self.model} fails ({error}).")


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
