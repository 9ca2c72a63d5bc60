"""Build a corpus. In: text, JSON lines, CSV and Parquet files, samples that fetch.py keeps. Out:
evaluation.txt, pool.txt, documents.csv, corpus.json, corpus.md in one folder."""

import json
from pathlib import Path

from quern import QuernError, command
from quern.corpus import build, sources


def main(arguments):
    try:
        entries = json.loads(arguments.sources)
        found = [source for entry in entries for source in sources.expand(entry)]
    except (ValueError, TypeError, AttributeError) as error:
        raise QuernError(f"--sources is not a list of sources ({error}).") from None
    settings = build.Settings(
        evaluation_characters=arguments.evaluation_characters,
        seed=arguments.seed,
        order=arguments.order,
        near_duplicates=arguments.near_duplicates,
        similarity=arguments.similarity,
        chat_template=arguments.chat_template,
    )
    build.build(found, arguments.output, settings)


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument(
        "--sources",
        required=True,
        metavar="JSON",
        help='as in the config: [{"name": "wiki", "path": "wiki.txt"}]',
    )
    p.add_argument(
        "--evaluation-characters", type=int, default=300_000, help="size of the evaluation part"
    )
    p.add_argument("--seed", type=int, default=0, help="decides the order of documents")
    p.add_argument(
        "--order", choices=build.ORDERS, default="shuffled", help="order within each part"
    )
    p.add_argument(
        "--near-duplicates",
        choices=("report", "remove"),
        default="report",
        help="what to do with documents of the pool that nearly repeat one for evaluation",
    )
    p.add_argument(
        "--similarity", type=float, default=0.7, help="share of n-grams that makes them near"
    )
    p.add_argument(
        "--chat-template",
        action="store_true",
        help="keep who says what in conversations, for tokens.py --chat-template",
    )
    p.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where to write")
    command.run(main, p.parse_args())
