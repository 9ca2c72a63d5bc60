"""Describe an importance matrix, tensor by tensor. In: imatrix (GGUF or .dat), perhaps its report.
Out: tables of tensors and layers (CSV) and a picture (layers × kinds of tensors)."""

from pathlib import Path

from quern import command, files
from quern.imatrix import formats, statistics
from quern.report import plots


def main(arguments):
    noise = files.read_json(arguments.report)["noise"] if arguments.report else {}
    table = statistics.table(formats.read(arguments.imatrix), noise)
    with files.replacing(arguments.csv) as temporary:
        table.to_csv(temporary, index=False)
    with files.replacing(arguments.layers) as temporary:
        statistics.layers(table).to_csv(temporary, index=False)
    plots.importances(table, arguments.title or arguments.imatrix.stem, arguments.picture)


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--imatrix", type=Path, required=True, help="GGUF or .dat")
    p.add_argument("--report", type=Path, help="its JSON from imatrix.py, for the noise")
    p.add_argument("--title", help="title of the picture (default: the file's name)")
    p.add_argument("--csv", type=Path, required=True, help="CSV to write")
    p.add_argument("--layers", type=Path, required=True, help="CSV of the layers to write")
    p.add_argument("--picture", type=Path, required=True, help="PNG or SVG to write")
    command.run(main, p.parse_args())
