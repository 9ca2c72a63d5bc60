"""Put all recipes of a model side by side. In: each recipe's JSON files. Out: one table (CSV and
Markdown) and one picture (KLD against size)."""

from pathlib import Path

from quern import stage, summary


def main(arguments):
    table = summary.table(arguments.recipes, arguments.info, arguments.compare)
    summary.write(table, arguments.title, arguments.csv, arguments.markdown, arguments.picture)


if __name__ == "__main__":
    p = stage.parser(__doc__)
    p.add_argument(
        "--recipes", nargs="+", required=True, metavar="NAME:TYPE:IMATRIX", help="what was compared"
    )
    p.add_argument("--info", type=Path, nargs="+", required=True, help="JSON of each model")
    p.add_argument("--compare", type=Path, nargs="+", required=True, help="JSON of each comparison")
    p.add_argument("--title", required=True, help="title of the picture")
    p.add_argument("--csv", type=Path, required=True, help="CSV to write")
    p.add_argument("--markdown", type=Path, required=True, help="Markdown to write")
    p.add_argument("--picture", type=Path, required=True, help="PNG or SVG to write")
    stage.run(main, p.parse_args())
