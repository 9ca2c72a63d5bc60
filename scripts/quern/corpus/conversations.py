"""Conversations as documents: messages are packed into one text, and unpacked again.

Every document is one text. In that of a conversation, each message begins with its role, between
two control characters that ordinary text does not contain.
"""

import re

_BEGIN, _END = "\x02", "\x03"
_CONTROL = re.compile(f"[{_BEGIN}{_END}]")
_MARK = re.compile(f"{_BEGIN}([^{_BEGIN}{_END}]*){_END}")
_KEYS = (("role", "content"), ("from", "value"))  # as chat templates want it, and ShareGPT's
_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant"}


def pack(messages: list) -> str:
    """A conversation as one text; empty where no message has any content.

    Args:
        messages: dictionaries with `role` and `content`, or with `from` and `value`.

    Raises:
        ValueError: one is something else; its text says which and what.
    """
    packed, empty = [], True
    for number, message in enumerate(messages):
        known = message if isinstance(message, dict) else {}
        keys = next((keys for keys in _KEYS if keys[0] in known and keys[1] in known), None)
        if keys is None:
            has = ", ".join(map(str, known)) or type(message).__name__
            raise ValueError(f"message {number} has no role and content; it has {has}")
        role, content = (known[key] for key in keys)
        if not isinstance(role, str) or not isinstance(content, str | None):
            kind = type(content if isinstance(role, str) else role).__name__
            raise ValueError(f"message {number} has a role or content of type {kind}, not text")
        role, content = (_CONTROL.sub("", text or "") for text in (role, content))
        empty = empty and not content.strip()
        packed.append(f"{_BEGIN}{_ROLES.get(role, role)}{_END}{content}")
    return "" if empty else "".join(packed)


def messages(text: str) -> list[dict[str, str]]:
    """Messages of a document, with `role` and `content`; a plain text is one of the user's."""
    first, *rest = _MARK.split(text)
    found = [{"role": r, "content": c} for r, c in zip(rest[::2], rest[1::2], strict=True)]
    return [{"role": "user", "content": first}, *found] if first or not found else found


def plain(text: str) -> str:
    """A document without its roles: the contents of its messages, an empty line between them."""
    if _BEGIN not in text:
        return text
    return "\n\n".join(filter(None, (m["content"].strip() for m in messages(text))))
