"""Hash files and keep the hashes by the files' size and time. In: files. Out: a JSON file, which is
added to."""

from pathlib import Path

from quern import QuernError, command
from quern.content import ContentHashes


def main(arguments):
    hashes = ContentHashes(arguments.cache)
    for path in arguments.files:
        if hashes.of(path) == "missing":
            raise QuernError(f"{path} does not exist, or is no file.")


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--files", type=Path, nargs="*", default=[], help="files to hash")
    p.add_argument(
        "--cache", type=Path, required=True, help="JSON of hashes, see results/.content.json"
    )
    command.run(main, p.parse_args())
