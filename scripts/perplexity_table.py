"""Put perplexities side by side. In: each model's JSON and HDF5 from perplexity.py. Out: one table
(CSV and Markdown)."""

from pathlib import Path

from quern import command
from quern.report import perplexity_table


def main(arguments):
    perplexity_table.write(
        arguments.models, arguments.title, csv=arguments.csv, markdown_path=arguments.markdown
    )


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument(
        "--models",
        type=command.json_value,
        required=True,
        metavar="JSON",
        help="what was measured: a list of objects with name, summary, positions",
    )
    p.add_argument("--title", required=True, help="title of the table")
    p.add_argument("--csv", type=Path, required=True, help="CSV to write")
    p.add_argument("--markdown", type=Path, required=True, help="Markdown to write")
    command.run(main, p.parse_args())
