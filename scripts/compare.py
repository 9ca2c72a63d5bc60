"""Compare a quantized model with its baseline. In: GGUF, baseline store. Out: figures per position
(HDF5), per window (CSV) and over all (JSON).

Run again after an interruption, it goes on at the next window.
"""

from pathlib import Path

import numpy as np

from quern import divergence, files, stage, statistics
from quern.gguf_files import ModelInfo
from quern.llama import Model
from quern.window_store import WindowStore


def main(arguments):
    info = ModelInfo.read(arguments.info)
    with Model(arguments.model, threads=arguments.threads, gpus=arguments.gpus) as model:
        facts = divergence.compare(
            model,
            info,
            arguments.baseline,
            arguments.output,
            baseline_sha256=ModelInfo.read(arguments.baseline_info).sha256,
            first=getattr(arguments, "from"),
            last=arguments.to,
        )
    with WindowStore.open(arguments.output) as store:
        figures = {name: store.rows(name) for name in divergence.FIGURES}
        windows = statistics.per_window(figures, np.flatnonzero(store.done))
    with files.replacing(arguments.windows) as temporary:
        windows.to_csv(temporary, index=False)
    result = statistics.summarize(figures) | {"windows": len(windows), "provenance": facts}
    files.write_json(arguments.summary, result)


if __name__ == "__main__":
    p = stage.parser(__doc__)
    p.add_argument("--model", type=Path, required=True, help="quantized GGUF file")
    p.add_argument(
        "--info", type=Path, required=True, help="its JSON, from quantize.py or model.py"
    )
    p.add_argument("--baseline", type=Path, required=True, help="HDF5 from baseline.py")
    p.add_argument(
        "--baseline-info", type=Path, required=True, help="the baseline model's JSON, from model.py"
    )
    stage.add_window_range(p)
    stage.add_compute(p)
    p.add_argument("--output", type=Path, required=True, help="HDF5 to write")
    p.add_argument("--windows", type=Path, required=True, help="CSV to write")
    p.add_argument("--summary", type=Path, required=True, help="JSON to write")
    stage.run(main, p.parse_args())
