"""Measure the instrument's own noise: the baseline against itself, decoded in other batches by
another number of threads. In: GGUF, baseline store. Out: JSON.

What this finds is no property of a model; differences below it mean nothing.
"""

import tempfile
from pathlib import Path

from quern import command, files
from quern.gguf_files import ModelInfo
from quern.measure import comparison
from quern.measure.baseline import Baseline


def main(arguments):
    info = ModelInfo.read(arguments.info)
    with (
        Baseline(arguments.baseline, arguments.model, info) as baseline,
        tempfile.TemporaryDirectory(dir=arguments.output.parent) as folder,
    ):
        figures = comparison.noise(
            comparison.Candidate(arguments.model, info, Path(folder) / "noise.h5"),
            baseline,
            threads=arguments.threads,
            gpus=arguments.gpus,
            windows=arguments.windows,
        )
    files.write_json(arguments.output, figures)


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--model", type=Path, required=True, help="the baseline's GGUF")
    p.add_argument("--info", type=Path, required=True, help="its JSON, from model.py")
    p.add_argument("--baseline", type=Path, required=True, help="HDF5 from baseline.py")
    p.add_argument("--windows", type=int, default=8, help="decode so many windows")
    command.add_compute(p)
    p.add_argument("--output", type=Path, required=True, help="JSON to write")
    command.run(main, p.parse_args())
