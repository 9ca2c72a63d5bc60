"""Write the types of a quantized model's tensors, so that stock llama.cpp can make it again. In:
GGUF. Out: a file for llama-quantize --tensor-type-file. The command is printed."""

from pathlib import Path

from quern import command, files
from quern.quantize import type_files


def main(arguments):
    types = type_files.of_gguf(arguments.model)
    line, notes = type_files.command(arguments.model, arguments.output)
    with files.replacing(arguments.output) as temporary:
        temporary.write_text(type_files.text(types), encoding="utf-8")
    print("\n".join([*(f"# {note}" for note in notes), line]))


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--model", type=Path, required=True, help="quantized GGUF (first shard)")
    p.add_argument("--output", type=Path, required=True, help="text to write")
    command.run(main, p.parse_args())
