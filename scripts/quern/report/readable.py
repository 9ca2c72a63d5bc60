"""Tables and texts as HTML that a browser shows without a network."""

import io
from pathlib import Path

import markdown_it
import pandas as pd

from .. import QuernError, files
from . import templating


def html(path: Path) -> str:
    """A CSV file or a Markdown file as a page; headings of its tables sort.

    One that has a hash beside it is checked.

    Raises:
        QuernError: it is neither, no such file, or was changed since.
    """
    try:
        reader = _READERS[path.suffix]
        body = reader(files.read_summed(path) if files.sums(path) else path.read_bytes())
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


def _table(content):
    try:
        frame = pd.read_csv(io.BytesIO(content))
    except pd.errors.EmptyDataError:
        return "<p>The table is empty.</p>"
    return frame.to_html(index=False, border=0, na_rep="", float_format="{:.6g}".format)


def _text(content):
    # No HTML of others: a name in a text stays a text.
    return (
        markdown_it.MarkdownIt("commonmark", {"html": False})
        .enable("table")
        .render(content.decode())
    )


_READERS = {".csv": _table, ".md": _text}
