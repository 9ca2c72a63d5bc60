"""Convert a model with llama.cpp's converter. In: a folder of safetensors. Out: GGUF, JSON.

The Python of the converter's environment runs it, see envs/converter.sh.
"""

from pathlib import Path

from quern import command, files
from quern.models import conversion


def main(arguments):
    files.write_json(arguments.facts, conversion.convert(arguments.folder, arguments.output))


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--folder", type=Path, required=True, help="config.json and *.safetensors")
    p.add_argument("--output", type=Path, required=True, help="GGUF to write")
    p.add_argument("--facts", type=Path, required=True, help="JSON to write")
    command.run(main, p.parse_args())
