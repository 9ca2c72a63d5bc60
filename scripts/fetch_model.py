"""Fetch a model from the Hugging Face hub. In: its address. Out: GGUF (all files of it), JSON.

An interrupted run goes on where it stopped. A token is taken from HF_TOKEN or a login.
"""

from pathlib import Path

from quern import command, files
from quern.models import hub


def main(arguments):
    files.write_json(arguments.facts, hub.fetch(arguments.address, arguments.output))


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument(
        "--address",
        type=command.parsed(hub.address),
        required=True,
        help="hf://owner/name/file.gguf, or hf://owner/name@revision/file.gguf; of a model in "
        "several files the first",
    )
    p.add_argument("--output", type=Path, required=True, help="GGUF to write; others beside it")
    p.add_argument("--facts", type=Path, required=True, help="JSON to write")
    command.run(main, p.parse_args())
