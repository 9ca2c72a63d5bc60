"""Texts of others in Markdown: they stay texts, whatever stands in them."""

import re

# What Markdown, its tables and HTML read as marks.
_MARKS = re.compile(r"[\\`*_\[\]<>|&~#!$]")
_INSIDE = re.compile(r"(?<=[^\W_])_(?=[^\W_])")  # no mark there, and usual in names


def line(text: str) -> str:
    """A text as one line of characters that can be seen."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())


def escaped(text: str) -> str:
    """A text as one line, in which nothing is a mark; also for the cells of a table."""
    whole = line(text)
    inside = {match.start() for match in _INSIDE.finditer(whole)}

    def mark(match):
        return match[0] if match.start() in inside else f"&#{ord(match[0])};"

    return _MARKS.sub(mark, whole)
