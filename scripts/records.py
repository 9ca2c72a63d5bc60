"""Join records of several people. In: record.json files, or folders with them. Out: one table (CSV,
Markdown); records of another protocol are refused."""

from pathlib import Path

from quern import command, files
from quern.release import records


def main(arguments):
    found = records.read(arguments.paths, arguments.corpus)
    records.require_one_protocol(found)
    text = records.markdown(found)
    if arguments.csv:
        with files.replacing(arguments.csv) as temporary:
            records.table(found).to_csv(temporary, index=False)
    if arguments.markdown:
        with files.replacing(arguments.markdown) as temporary:
            temporary.write_text(text, encoding="utf-8")
    if not (arguments.csv or arguments.markdown):
        print(text, end="")


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("paths", type=Path, nargs="+", help="record.json files, or folders of releases")
    p.add_argument("--corpus", help="only records of the text of this name")
    p.add_argument("--csv", type=Path, help="CSV to write")
    p.add_argument("--markdown", type=Path, help="Markdown to write; printed if nothing is written")
    command.run(main, p.parse_args())
