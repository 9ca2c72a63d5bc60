"""Tables and texts as HTML that a browser shows without a network."""

from pathlib import Path

import markdown_it
import pandas as pd

from .. import QuernError
from . import templating


def html(path: Path) -> str:
    """A CSV file or a Markdown file as a page; headings of its tables sort.

    Raises:
        QuernError: it is neither, or no such file.
    """
    try:
        body = _READERS[path.suffix](path)
    except KeyError:
        raise QuernError(f"{path} is neither CSV nor Markdown.") from None
    except (OSError, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise QuernError(f"{path} cannot be read: {error}.") from None
    return (
        templating.environment()
        .get_template("document.html")
        .render(
            title=" ".join(path.parts[-3:]),
            body=body,
            style=templating.text("page.css"),
            script=templating.text("tables.js"),
        )
    )


def _table(path):
    try:
        frame = pd.read_csv(path)
    except pd.errors.EmptyDataError:
        return "<p>The table is empty.</p>"
    return frame.to_html(index=False, border=0, na_rep="", float_format="{:.6g}".format)


def _text(path):
    # No HTML of others: a name in a text stays a text.
    return (
        markdown_it.MarkdownIt("commonmark", {"html": False})
        .enable("table")
        .render(path.read_text(encoding="utf-8"))
    )


_READERS = {".csv": _table, ".md": _text}
