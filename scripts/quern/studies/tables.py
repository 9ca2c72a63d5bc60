"""From a measured study to its page, its CSV and its picture."""

from pathlib import Path

from .. import files
from . import context_table, datasets_table, order_table, page, subsampling_table
from .cells import Study

TABLES = {
    "context": context_table.table,
    "datasets": datasets_table.table,
    "order": order_table.table,
    "subsampling": subsampling_table.table,
}


def write(study: Study, *, markdown: Path, csv: Path, picture: Path) -> None:
    """Write the page (Markdown), the rows (CSV) and the picture (PNG).

    Raises:
        QuernError: comparisons that belong together are not of the same text.
    """
    found = TABLES[study.settings["kind"]](study)
    with files.replacing(csv) as temporary:
        found.frame.to_csv(temporary, index=False)
    with files.replacing(markdown) as temporary:
        temporary.write_text(
            f"# {study.title}\n\n{found.finding}\n{found.tables}\n{page.notes(study)}",
            encoding="utf-8",
        )
    page.draw(found, study.title, picture)
