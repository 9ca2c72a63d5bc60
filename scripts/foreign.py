"""Describe a foreign model, and check that it is a quantization of this baseline.
In: its GGUF, the unquantized one. Out: JSON, as of a recipe."""

from pathlib import Path

from quern import command, files
from quern.gguf_files import ModelInfo
from quern.quantize import foreign


def main(arguments):
    found = foreign.describe(
        arguments.name,
        arguments.model,
        arguments.baseline_model,
        ModelInfo.read(arguments.baseline_info),
        arguments.sha256,
    )
    files.write_json(arguments.output, found)


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--name", required=True, help="what it is called")
    p.add_argument("--model", type=Path, required=True, help="GGUF file (first shard of several)")
    p.add_argument("--baseline-model", type=Path, required=True, help="the unquantized GGUF file")
    p.add_argument("--baseline-info", type=Path, required=True, help="its JSON, from model.py")
    p.add_argument(
        "--sha256", nargs="+", help="SHA-256 of its files if known, to spare reading them again"
    )
    p.add_argument("--output", type=Path, required=True, help="JSON to write")
    command.run(main, p.parse_args())
