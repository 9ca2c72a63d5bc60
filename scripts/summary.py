"""Put all recipes of a model side by side. In: each recipe's JSON files and figures per position.
Out: one table (CSV and Markdown), every pair of recipes (CSV), one picture (KLD against
size)."""

from pathlib import Path

from quern import command, files
from quern.report import summary


def main(arguments):
    imatrices = {path.stem: files.read_json(path) for path in arguments.imatrices}
    summary.write(
        summary.read(arguments.recipes),
        imatrices,
        summary.failures(arguments.recipes),
        arguments.title,
        files.read_json(arguments.model).get("warnings", []) if arguments.model else [],
        csv=arguments.csv,
        pairs_csv=arguments.pairs,
        markdown_path=arguments.markdown,
        picture=arguments.picture,
    )


if __name__ == "__main__":
    p = command.parser(__doc__)
    command.add_recipes(p)
    p.add_argument(
        "--imatrices",
        type=Path,
        nargs="*",
        default=[],
        help="JSON of the imatrices, from imatrix.py",
    )
    p.add_argument("--model", type=Path, help="JSON of the unquantized model, for its warnings")
    p.add_argument("--title", required=True, help="title of the picture")
    p.add_argument("--csv", type=Path, required=True, help="CSV to write")
    p.add_argument("--pairs", type=Path, required=True, help="CSV of pairs to write")
    p.add_argument("--markdown", type=Path, required=True, help="Markdown to write")
    p.add_argument("--picture", type=Path, required=True, help="PNG or SVG to write")
    command.run(main, p.parse_args())
