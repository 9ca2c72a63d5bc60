"""Fetch a model from the Hugging Face hub. In: its address. Out: its files, JSON.

An interrupted run goes on where it stopped. A token is taken from HF_TOKEN or a login.
"""

from pathlib import Path

from quern import command, files
from quern.models import hub


def main(arguments):
    files.write_json(arguments.facts, hub.fetch(arguments.address, arguments.place))


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument(
        "--address",
        type=command.parsed(hub.address),
        required=True,
        help="hf://owner/name/file.gguf (of a model in several files the first) or hf://owner/name "
        "(safetensors); @revision after the name is a branch, a tag or a commit",
    )
    p.add_argument(
        "--place",
        type=Path,
        required=True,
        help="where to write the GGUF, further files beside it; or a folder for a repository",
    )
    p.add_argument("--facts", type=Path, required=True, help="JSON to write")
    command.run(main, p.parse_args())
