"""Say which recipe to ship for each memory. In: the summary's tables, each recipe's memory, and its
speed if it was timed. Out: the answers with their reasons (JSON, Markdown)."""

from pathlib import Path

from quern import __version__, command, files
from quern.report import answer, stored_tables
from quern.speed import figures


def main(arguments):
    memory = answer.read_memory(arguments.memory)
    sums = {name: own["provenance"]["sha256"] for name, own in memory.items()}
    speed = figures.read(arguments.speed, sums) if arguments.speed else None
    found = answer.answers(
        stored_tables.recipes(arguments.table),
        stored_tables.pairs(arguments.pairs),
        memory,
        speed,
        arguments.budgets,
        answer.foreign_names({path.stem: files.read_json(path) for path in arguments.foreign}),
    )
    with files.replacing(arguments.markdown) as temporary:
        temporary.write_text(answer.markdown(found, arguments.title, speed), encoding="utf-8")
    tables = {"table": arguments.table, "pairs": arguments.pairs}
    provenance = {"quern": __version__, "figure": answer.FIGURE}
    provenance |= {f"{name}_sha256": files.sha256(path) for name, path in tables.items()}
    content = {"model": arguments.model, "corpus": arguments.corpus, "budgets": found}
    if speed:
        content["speed"] = {"load": speed["load"], "decides": not figures.was_busy(speed)}
    files.write_json(arguments.output, content | {"provenance": provenance})


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--table", type=Path, required=True, help="CSV from summary.py")
    p.add_argument("--pairs", type=Path, required=True, help="CSV of pairs from summary.py")
    p.add_argument(
        "--memory", type=Path, nargs="+", required=True, help="JSON of each recipe's memory"
    )
    p.add_argument("--speed", type=Path, help="JSON of the recipes' speed")
    p.add_argument(
        "--foreign",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        help="JSON of each foreign model, which is called what others know it by",
    )
    p.add_argument(
        "--budgets",
        type=int,
        nargs="+",
        action="extend",
        default=[],
        help="bytes of memory (default: usual cards from the smallest recipe to the largest)",
    )
    p.add_argument("--model", required=True, help="name of the model")
    p.add_argument("--corpus", required=True, help="name of the corpus")
    p.add_argument("--title", required=True, help="title of the Markdown")
    p.add_argument("--output", type=Path, required=True, help="JSON to write")
    p.add_argument("--markdown", type=Path, required=True, help="Markdown to write")
    command.run(main, p.parse_args())
