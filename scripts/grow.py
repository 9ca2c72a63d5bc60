"""Choose among the steps of a growing imatrix. In: their facts and imatrices. Out: the chosen
imatrix, the decision (JSON), the steps as a table (Markdown) and a picture."""

import shutil
from pathlib import Path

from quern import command, files
from quern.growth.decision import choose
from quern.growth.table import table
from quern.report import plots


def main(arguments):
    result = choose(arguments.steps, min_gain=arguments.min_gain, patience=arguments.patience)
    none = {
        kind: files.read_json(path)["figures"]
        for kind, path in zip(arguments.types, arguments.without, strict=False)
    }
    with files.replacing(arguments.markdown) as temporary:
        temporary.write_text(f"# {arguments.title}\n\n{table(result)}", encoding="utf-8")
    plots.growth(result, none, arguments.title, arguments.picture)
    files.write_json(arguments.decision, result)
    with files.replacing(arguments.output) as temporary:
        shutil.copyfile(arguments.imatrices[result["decision"]["chosen"]], temporary)
    with files.replacing(arguments.report) as temporary:
        shutil.copyfile(arguments.reports[result["decision"]["chosen"]], temporary)


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--steps", type=Path, nargs="+", required=True, help="JSON from grow_step.py")
    p.add_argument("--imatrices", type=Path, nargs="+", required=True, help="GGUF of each step")
    p.add_argument("--reports", type=Path, nargs="+", required=True, help="JSON of each imatrix")
    p.add_argument("--types", nargs="*", default=[], help="types compared without an imatrix")
    p.add_argument(
        "--without", type=Path, nargs="*", default=[], help="their comparisons (JSON), in order"
    )
    p.add_argument(
        "--min-gain", type=float, default=0.01, help="share of the score a step must gain"
    )
    p.add_argument("--patience", type=int, default=2, help="steps in a row that may gain less")
    p.add_argument("--title", required=True, help="title of table and picture")
    p.add_argument("--output", type=Path, required=True, help="GGUF to write")
    p.add_argument("--report", type=Path, required=True, help="JSON of the chosen imatrix to write")
    p.add_argument("--decision", type=Path, required=True, help="JSON to write")
    p.add_argument("--markdown", type=Path, required=True, help="Markdown to write")
    p.add_argument("--picture", type=Path, required=True, help="PNG or SVG to write")
    command.run(main, p.parse_args())
