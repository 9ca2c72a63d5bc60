"""Build a corpus. In: text files and JSON lines. Out: evaluation.txt, pool.txt, documents.csv,
corpus.json in one folder."""

import json
from pathlib import Path

from quern import QuernError, corpora, stage


def main(arguments):
    try:
        sources = [corpora.Source(**source) for source in json.loads(arguments.sources)]
    except (ValueError, TypeError) as error:
        raise QuernError(f"--sources is not a list of sources ({error}).") from None
    corpora.build(
        sources,
        arguments.output,
        evaluation_characters=arguments.evaluation_characters,
        seed=arguments.seed,
    )


if __name__ == "__main__":
    p = stage.parser(__doc__)
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
    p.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where to write")
    stage.run(main, p.parse_args())
