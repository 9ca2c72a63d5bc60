"""Write the page of a model and a corpus. In: the answers, the summary's table, each recipe's JSON
files and figures per position. Out: one HTML file that needs no network."""

from pathlib import Path

from quern import QuernError, command, files
from quern.llama import Model
from quern.report import answer, page, stored_tables, tail
from quern.speed import figures


def main(arguments):
    recipes = [e for e in arguments.recipes if not files.failure(e["compare"])]
    answers, info = files.read_json(arguments.answer), files.read_json(arguments.info)
    table = stored_tables.recipes(arguments.table)
    if answers["provenance"]["table_sha256"] != files.sha256(arguments.table):
        raise QuernError(f"{arguments.answer} is of another table; delete it and run again.")
    details = page.read(recipes, answer.read_memory(arguments.memory))
    sums = {name: own.sha256 for name, own in details.items()}
    material = page.Material(
        model=answers["model"],
        corpus=answers["corpus"],
        answers=answers["budgets"],
        table=table,
        recipes=details,
        speed=figures.read(arguments.speed, sums) if arguments.speed else None,
        growths=dict(zip(arguments.grown, map(files.read_json, arguments.growth), strict=True)),
        strays=strays(arguments, recipes, answers["budgets"]),
        facts=page.facts(info, files.read_json(recipes[0]["compare"])),
        warnings=info.get("warnings", []),
        config=arguments.config,
    )
    with files.replacing(arguments.output) as temporary:
        page.write(material, temporary)


def strays(arguments, recipes, answers):
    """Where each recipe that is to be shipped strays most."""
    shipped = {found["recipe"] for found in answers}
    with Model(arguments.baseline_model, load="vocab") as model:
        return [
            page.Strays(
                recipe=entry["name"],
                share=tail.share_of_worst(Path(entry["positions"])),
                tokens=tail.strays(Path(entry["positions"]), arguments.baseline, model.pieces),
            )
            for entry in recipes
            if entry["name"] in shipped
        ]


if __name__ == "__main__":
    p = command.parser(__doc__)
    command.add_recipes(p)
    p.add_argument("--answer", type=Path, required=True, help="JSON from answer.py")
    p.add_argument("--table", type=Path, required=True, help="CSV from summary.py")
    p.add_argument("--memory", type=Path, nargs="+", required=True, help="JSON of each memory")
    p.add_argument("--speed", type=Path, help="JSON of the recipes' speed")
    p.add_argument("--grown", nargs="*", default=[], help="corpora whose imatrix grew")
    p.add_argument("--growth", type=Path, nargs="*", default=[], help="JSON of each decision")
    p.add_argument("--info", type=Path, required=True, help="the baseline model's JSON")
    p.add_argument("--baseline", type=Path, required=True, help="HDF5 from baseline.py")
    p.add_argument(
        "--baseline-model", type=Path, required=True, help="the baseline's GGUF, for its vocabulary"
    )
    p.add_argument(
        "--config",
        type=command.json_value,
        default={},
        metavar="JSON",
        help="the configuration to show, as others may read it",
    )
    p.add_argument("--output", type=Path, required=True, help="HTML to write")
    command.run(main, p.parse_args())
