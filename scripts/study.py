"""Summarize a study. In: what it compared, as JSON; each comparison's JSON and figures per
position. Out: a page (Markdown), its rows (CSV), a picture."""

from pathlib import Path

from quern import command
from quern.studies import tables
from quern.studies.cells import Study


def main(arguments):
    study = Study.read(arguments.study, arguments.imatrices, arguments.info, arguments.title)
    tables.write(study, markdown=arguments.markdown, csv=arguments.csv, picture=arguments.picture)


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument(
        "--study",
        type=command.json_value,
        required=True,
        metavar="JSON",
        help="settings, cells (recipe, labels, info, compare, positions), and texts of "
        "calibrations by label (tokens, n_ctx, windows)",
    )
    p.add_argument(
        "--imatrices",
        type=Path,
        nargs="*",
        default=[],
        help="JSON of the imatrices, from imatrix.py",
    )
    p.add_argument("--info", type=Path, required=True, help="the model's JSON, from model.py")
    p.add_argument("--title", required=True, help="title of page and picture")
    p.add_argument("--markdown", type=Path, required=True, help="Markdown to write")
    p.add_argument("--csv", type=Path, required=True, help="CSV to write")
    p.add_argument("--picture", type=Path, required=True, help="PNG or SVG to write")
    command.run(main, p.parse_args())
