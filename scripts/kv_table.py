"""Put types of the K/V cache side by side. In: each comparison's JSON and figures per position.
Out: one table (CSV and Markdown)."""

from pathlib import Path

from quern import command
from quern.report import kv_table


def main(arguments):
    kv_table.write(
        arguments.recipes, arguments.title, csv=arguments.csv, markdown_path=arguments.markdown
    )


if __name__ == "__main__":
    p = command.parser(__doc__)
    command.add_recipes(p, "kv_type, flash")
    p.add_argument("--title", required=True, help="title of the table")
    p.add_argument("--csv", type=Path, required=True, help="CSV to write")
    p.add_argument("--markdown", type=Path, required=True, help="Markdown to write")
    command.run(main, p.parse_args())
