"""Put roundings side by side. In: each recipe's JSON files, figures per position and time.
Out: one table (CSV and Markdown)."""

from pathlib import Path

from quern import command
from quern.report import rounding_table


def main(arguments):
    frame = rounding_table.table(arguments.recipes)
    rounding_table.write(
        frame, arguments.title, csv=arguments.csv, markdown_path=arguments.markdown
    )


if __name__ == "__main__":
    p = command.parser(__doc__)
    command.add_recipes(p, "rounding, plain, benchmark")
    p.add_argument("--title", required=True, help="title of the table")
    p.add_argument("--csv", type=Path, required=True, help="CSV to write")
    p.add_argument("--markdown", type=Path, required=True, help="Markdown to write")
    command.run(main, p.parse_args())
