"""Measure one step of a growing imatrix. In: the comparisons of its quantized models, the report of
its imatrix, the steps before. Out: its facts (JSON), what later steps compare with (HDF5)."""

from pathlib import Path

from quern import command, files
from quern.growth.step import measure


def main(arguments):
    positions = dict(zip(arguments.types, arguments.positions, strict=True))
    facts = measure(
        arguments.step, arguments.report, positions, arguments.earlier, arguments.output
    )
    files.write_json(arguments.facts, facts)


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--step", type=int, required=True, help="its number, from 0")
    p.add_argument("--report", type=Path, required=True, help="JSON from imatrix.py")
    p.add_argument("--types", nargs="+", required=True, help="the quantization types")
    p.add_argument(
        "--positions", type=Path, nargs="+", required=True, help="HDF5 from compare.py, by type"
    )
    p.add_argument(
        "--earlier", type=Path, nargs="*", default=[], help="HDF5 of the steps before, in order"
    )
    p.add_argument("--output", type=Path, required=True, help="HDF5 to write")
    p.add_argument("--facts", type=Path, required=True, help="JSON to write")
    command.run(main, p.parse_args())
