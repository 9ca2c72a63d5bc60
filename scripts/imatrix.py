"""Merge shards into an importance matrix. In: shards (HDF5). Out: llama.cpp's GGUF imatrix (or
`.dat`, by the ending), and a report of its noise and of weights without data (JSON)."""

from pathlib import Path

from quern import command, files
from quern.gguf_files import ModelInfo
from quern.imatrix import formats, shards


def main(arguments):
    merged = shards.merge(arguments.shards, arguments.dataset, arguments.windows)
    formats.write(merged.matrix, arguments.output)
    files.write_json(arguments.report, shards.report(merged, ModelInfo.read(arguments.info)))


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument(
        "--shards", type=Path, nargs="+", required=True, help="HDF5 from imatrix_shard.py"
    )
    p.add_argument("--info", type=Path, required=True, help="the model's JSON, from model.py")
    p.add_argument("--windows", type=int, help="windows that the shards must cover")
    p.add_argument("--dataset", default="calibration", help="recorded as the imatrix's origin")
    p.add_argument("--output", type=Path, required=True, help="GGUF or .dat to write")
    p.add_argument("--report", type=Path, required=True, help="JSON to write")
    command.run(main, p.parse_args())
