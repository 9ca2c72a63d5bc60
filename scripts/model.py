"""Describe a model: architecture, hashes, tensors, size, what llama.cpp warns of. In: GGUF. Out:
JSON."""

from pathlib import Path

from quern import command, files, llama
from quern.gguf_files import model_info


def main(arguments):
    info = model_info(arguments.model, arguments.sha256)
    warnings = llama.warnings(arguments.model)
    for said in warnings:
        command.complain(f"{arguments.model}: llama.cpp warns: {said}")
    files.write_json(arguments.output, info.as_dict() | {"warnings": warnings})


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--model", type=Path, required=True, help="GGUF file (first shard of several)")
    p.add_argument(
        "--sha256", nargs="+", help="SHA-256 of its files if known, to spare reading them again"
    )
    p.add_argument("--output", type=Path, required=True, help="JSON to write")
    command.run(main, p.parse_args())
