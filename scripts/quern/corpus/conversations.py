"""Conversations as documents: messages are packed into one text, and unpacked again.

Every document is one text. That of a conversation is a control character and its messages in JSON,
whole, as a chat template wants them, with its tools where it has some. A plain text that begins
with that character has it twice.
"""

import datetime
import functools
import json
import logging
from collections.abc import Mapping

log = logging.getLogger("quern.conversations")

_MARK = "\x02"
BESIDE = ("tools", "system")  # what records hold beside messages, and templates are given
# What a message may say in place of content.
_SAID = ("content", "tool_calls", "function_call", "reasoning_content", "reasoning", "thinking")
_KEYS = {"from": "role", "value": "content"}  # ShareGPT's, and what chat templates want
# Names of roles that data sets use, in lower case.
_ROLES = {
    "user": ("human", "prompter", "question", "instruction", "customer", "client"),
    "assistant": ("gpt", "chatgpt", "bing", "bard", "claude", "model", "bot", "ai", "answer"),
    "system": ("system_prompt", "context"),
    "tool": ("function", "function_response", "observation", "tool_response", "ipython"),
}
_KNOWN = {name: role for role, names in _ROLES.items() for name in (role, *names)}


class Packed(str):
    """A document as it lies in files."""


def packed(text: str) -> Packed:
    """A text as it lies in files, without surrounding white space."""
    if isinstance(text, Packed):
        return text
    text = text.strip()
    return Packed(_MARK + text if text.startswith(_MARK) else text)


def is_conversation(document: str) -> bool:
    """Whether a document as it lies in files is a conversation."""
    return document.startswith(_MARK) and not document.startswith(2 * _MARK)


def pack(messages: list, beside: Mapping | None = None) -> Packed:
    """A conversation as one text; empty where its messages say nothing.

    Args:
        messages: dictionaries with a `role` (or `from`) and whatever a template prints of them:
            `content` (or `value`), a text or a list of parts, `tool_calls` and others.
        beside: what their record holds besides: `tools`, a list or JSON of one, and `system`, a
            text, which becomes the first message where none is the system's.

    Raises:
        ValueError: one is something else; its text says which and what.
    """
    whole = [_message(number, message) for number, message in enumerate(messages)]
    if not any(_says(message) for message in whole):
        return Packed("")
    tools, system = ((beside or {}).get(key) for key in BESIDE)
    if isinstance(system, str) and system.strip() and all(m["role"] != "system" for m in whole):
        whole = [{"role": "system", "content": system}, *whole]
    tools = _tools(tools)
    held = {"messages": whole, "tools": tools} if tools else whole
    return Packed(_MARK + json.dumps(held, ensure_ascii=False, default=_as_text))


def _tools(value) -> list[dict]:
    """Tools as a template is given them; each, or all of them, may be JSON in a text."""
    found = _parsed(value) or []
    tools = [_parsed(tool) for tool in found] if isinstance(found, list) else [None]
    if all(isinstance(tool, dict) for tool in tools):
        return [_without_none(tool) for tool in tools]
    _no_tools(type(value).__name__)
    return []


def _parsed(value):
    """What a text holds as JSON; anything else as it is."""
    try:
        return json.loads(value) if isinstance(value, str) and value.strip() else value
    except ValueError:
        return value


def _without_none(value):
    """A value without keys that a table filled in with None."""
    if isinstance(value, dict):
        return {key: _without_none(held) for key, held in value.items() if held is not None}
    return [_without_none(held) for held in value] if isinstance(value, list) else value


@functools.cache
def _no_tools(kind: str) -> None:
    log.warning("tools of the type %s are no list of tools; no template is given them", kind)


def _message(number: int, message) -> dict:
    known = message if isinstance(message, dict) else {}
    found = {_KEYS.get(key, key): value for key, value in known.items()} | {
        key: value for key, value in known.items() if key in _KEYS.values()
    }
    # Tables fill in None for what other messages have.
    found = {key: value for key, value in found.items() if key == "content" or value is not None}
    if "role" not in found or not any(key in found for key in _SAID):
        has = ", ".join(map(str, known)) or type(message).__name__
        raise ValueError(f"message {number} has no role and content; it has {has}")
    if not isinstance(found["role"], str):
        kind = type(found["role"]).__name__
        raise ValueError(f"message {number} has a role of type {kind}, not text")
    if not isinstance(found.get("content"), str | list | None):
        kind = type(found["content"]).__name__
        raise ValueError(f"message {number} has content of type {kind}, not text or a list")
    return found | {"role": _role(found["role"])}


@functools.cache
def _role(name: str) -> str:
    """The role that templates know by this name; any other as it is."""
    role = _KNOWN.get(name.strip().lower(), name)
    if role != name:
        log.warning("the role %r is taken for %r", name, role)
    return role


def _says(message: dict) -> bool:
    content = _content(message)
    return bool(content.strip() or any(message[k] for k in message.keys() - {"role", "content"}))


def _content(message: dict) -> str:
    """The text of a message's content; of a list of parts, those that are text."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    parts = (part.get("text") if isinstance(part, dict) else part for part in content)
    return "\n".join(part for part in parts if isinstance(part, str))


def _as_text(value) -> str:
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else str(value)


def messages(document: str) -> list[dict]:
    """The messages of a document, as they were packed; a plain text is one of the user's."""
    if is_conversation(document):
        held = _held(document)
        return held["messages"] if isinstance(held, dict) else held
    return [{"role": "user", "content": plain(document)}]


def tools(document: str) -> list[dict]:
    """The tools of a conversation, as they were packed; none of a plain text."""
    held = _held(document) if is_conversation(document) else []
    return held["tools"] if isinstance(held, dict) else []


def _held(document: str) -> list | dict:
    return json.loads(document.removeprefix(_MARK))


def plain(document: str) -> str:
    """A document without its roles: the contents of its messages, an empty line between them."""
    if not is_conversation(document):
        return document.removeprefix(_MARK)
    return "\n\n".join(filter(None, (_content(m).strip() for m in messages(document))))
