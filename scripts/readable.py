"""Show tables and texts as HTML. In: CSV and Markdown files. Out: as many HTML files, which need no
network and whose tables sort."""

from pathlib import Path

from quern import QuernError, command, files
from quern.report import readable


def main(arguments):
    if len(arguments.documents) != len(arguments.output):
        raise QuernError("--documents and --output must be as many.")
    for document, output in zip(arguments.documents, arguments.output, strict=True):
        with files.replacing(output) as temporary:
            temporary.write_text(readable.html(document), encoding="utf-8")


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--documents", type=Path, nargs="+", required=True, help="CSV, Markdown")
    p.add_argument("--output", type=Path, nargs="+", required=True, help="HTML to write")
    command.run(main, p.parse_args())
