"""Link a fetched model into the results. In: its files. Out: links to them."""

import os
from pathlib import Path

from quern import QuernError, command, files


def main(arguments):
    for old, new in zip(files.shards(arguments.model), files.shards(arguments.output), strict=True):
        if not old.is_file():
            raise QuernError(f"{old} is gone; delete {arguments.facts} to fetch it again.")
        new.unlink(missing_ok=True)
        new.symlink_to(os.path.relpath(old, new.parent))


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--model", type=Path, required=True, help="GGUF, the first of several")
    p.add_argument("--facts", type=Path, required=True, help="JSON from fetch_model.py")
    p.add_argument("--output", type=Path, required=True, help="link to write; others beside it")
    command.run(main, p.parse_args())
