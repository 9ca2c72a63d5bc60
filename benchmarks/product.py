"""The product of hidden states with an output matrix: float32 BLAS, as comparisons on the CPU have
it, against ggml on the CPU and on a GPU, where there is one. In turns; the best of each counts.

Out: a table, as Markdown.
"""

import argparse
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import record
from peer import HOUSE  # noqa: F401 - puts the library on the path

from quern import llama
from quern.measure.output_matrix import OutputMatrix

SHAPES = {
    "small body": (128256, 512, 255),
    "1B": (128256, 2048, 255),
    "SmolLM2": (49152, 576, 255),
    "Gemma 3 270M": (262144, 640, 127),
}


def best_of(ways: list[OutputMatrix], states, out, pool, repeat: int) -> np.ndarray:
    """Seconds of each way, the best of some turns; one before does not count."""
    turns = []
    for _ in range(repeat + 1):
        times = [time.perf_counter()]
        for way in ways:
            way.logits(states, out, pool)
            times.append(time.perf_counter())
        turns.append(np.diff(times))
    return np.min(turns[1:], axis=0)


def main(arguments) -> None:
    places = ["BLAS", "ggml on the CPU", *(["ggml on the GPU"] if llama.devices() else [])]
    lines = [f"| shape | rows | GFLOP | {' | '.join(places)} |"]
    lines.append(f"| --- |{' ---: |' * (len(places) + 2)}")
    rng = np.random.default_rng(0)
    with ThreadPoolExecutor(arguments.threads) as pool:
        for name, (vocabulary, width, rows) in SHAPES.items():
            weights = rng.standard_normal((vocabulary, width), np.float32).astype(np.float16)
            states = rng.standard_normal((rows, width), np.float32).astype(np.float16)
            matrix, out = OutputMatrix(weights, "F16"), np.empty((rows, vocabulary), np.float32)
            cpu = llama.DeviceProduct(weights, gpu=False, threads=arguments.threads)
            ways = [matrix, OutputMatrix(weights, "F16", device=cpu)]
            ways += [matrix.on_gpu()] if llama.devices() else []
            best = best_of(ways, states, out, pool, arguments.repeat)
            flop = 2e-9 * vocabulary * width * rows
            cells = [f"{s:.3f} s ({flop / s:.0f} GFLOP/s)" for s in best]
            lines.append(f"| {name} | {rows} | {flop:.0f} | {' | '.join(cells)} |")
    record.show("\n".join(lines), "speed", "product", record=arguments.record)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--threads", type=int, default=2, help="CPU threads")
    p.add_argument("--repeat", type=int, default=4, help="turns after one that does not count")
    record.add_option(p)
    main(p.parse_args())
