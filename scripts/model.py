"""Describe a model: architecture, hashes, tensors, size. In: GGUF. Out: JSON."""

from pathlib import Path

from quern import files, stage
from quern.gguf_files import model_info


def main(arguments):
    info = model_info(arguments.model, arguments.sha256)
    files.write_json(arguments.output, info.as_dict())


if __name__ == "__main__":
    p = stage.parser(__doc__)
    p.add_argument("--model", type=Path, required=True, help="GGUF file (first shard of several)")
    p.add_argument("--sha256", help="its SHA-256 if known, to spare reading it once more")
    p.add_argument("--output", type=Path, required=True, help="JSON to write")
    stage.run(main, p.parse_args())
