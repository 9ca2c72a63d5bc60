"""Build a corpus. In: text, JSON lines, CSV and Parquet files, samples that fetch.py keeps. Out:
evaluation.txt, pool.txt, documents.csv, corpus.json, corpus.md in one folder."""

from pathlib import Path

from quern import QuernError, command
from quern.corpus import build, sources


def main(arguments):
    try:
        found = [s for entry in arguments.sources for s in sources.expand(entry)]
    except (ValueError, TypeError, AttributeError) as error:
        raise QuernError(f"--sources is not a list of sources ({error}).") from None
    settings = build.CorpusSettings(**command.options_of(arguments, build.CorpusSettings))
    build.build(found, arguments.output, settings)


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument(
        "--sources",
        type=command.json_value,
        required=True,
        metavar="JSON",
        help='as in the config: [{"name": "wiki", "path": "wiki.txt"}]; or @FILE with that',
    )
    command.add_options(p, build.CorpusSettings)
    p.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where to write")
    command.run(main, p.parse_args())
