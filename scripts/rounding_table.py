"""Put roundings side by side. In: each recipe's JSON files, figures per position and time, the
noise. Out: one table (CSV and Markdown)."""

from pathlib import Path

from quern import QuernError, command, files
from quern.report import rounding_table, summary


def main(arguments):
    if len(arguments.rounded) != len(arguments.recipes):
        raise QuernError("--recipes and --rounded must be given equally often.")
    recipes = summary.read(
        arguments.recipes, arguments.info, arguments.compare, arguments.positions
    )
    entries = [
        rounding_table.Entry(
            label.split(":")[0], *rounded.split(":"), rounding_table.seconds_of(time)
        )
        for label, rounded, time in zip(
            arguments.recipes, arguments.rounded, arguments.times, strict=True
        )
    ]
    noise = files.read_json(arguments.noise)["figures"]
    frame = rounding_table.table(entries, recipes, noise)
    rounding_table.write(
        frame, arguments.title, csv=arguments.csv, markdown_path=arguments.markdown
    )


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument(
        "--recipes", nargs="+", required=True, metavar="NAME:TYPE:IMATRIX", help="what was compared"
    )
    p.add_argument(
        "--rounded",
        nargs="+",
        required=True,
        metavar="ROUNDING:NAME",
        help="of each, the rounding and the recipe with ggml's own",
    )
    p.add_argument("--info", type=Path, nargs="+", required=True, help="JSON of each model")
    p.add_argument("--compare", type=Path, nargs="+", required=True, help="JSON of each comparison")
    p.add_argument(
        "--positions", type=Path, nargs="+", required=True, help="HDF5 of each comparison"
    )
    p.add_argument(
        "--times", type=Path, nargs="+", required=True, help="Snakemake's benchmark of each model"
    )
    p.add_argument("--noise", type=Path, required=True, help="JSON from noise.py")
    p.add_argument("--title", required=True, help="title of the table")
    p.add_argument("--csv", type=Path, required=True, help="CSV to write")
    p.add_argument("--markdown", type=Path, required=True, help="Markdown to write")
    command.run(main, p.parse_args())
