"""Speed and error of each rounding, beside ggml_quantize_chunk of the same run.

Out: Markdown tables. Time is per weight, from float32 rows to finished bytes, on one core, the best
of --repeat runs; compilation is timed apart. The error is the weighted squared error above the
optimum: for types with one scale over all codes and scales, for those with factors over all
factors and 240 scales of the block; for those with minima over what sub-blocks would have whose
scales and minima were free, which no block can store. For the first kind it leaves out what it
costs that the scale is stored as float16, which no search can help: a block's error is that of its
codes with their best scale, where that is less. Weights are Gaussian, Laplace and Student-t(4),
importances log-normal, rows of 4,096.
"""

import argparse
import subprocess
import sys

import numpy as np
import pandas as pd
import record
from peer import HOUSE, best_time

from quern import llama, rounding
from quern.rounding.layouts import CODED
from quern.rounding.structures import FactorsAndMinima
from references import (
    errors_of,
    free_errors,
    least_errors,
    least_joint_errors,
    least_line_errors,
    levels_of,
    some_values,
    weights_of,
)

DRAWS = ("normal", "laplace", "t4")
SPEED = {
    **{"Q4_0": 1.0, "Q5_0": 1.0, "IQ4_NL": 0.3, "IQ4_XS": 0.4, "Q3_K": 1.7, "Q6_K": 2.3},
    **{"Q2_K": 3.0, "Q4_K": 3.0, "Q5_K": 3.0},
}
EXCESS = {"Q3_K": 0.25, "IQ4_XS": 0.7, "Q6_K": 1.8}
NO_LIMIT = {"Q8_0", "Q2_K", "Q4_K", "Q5_K"}  # of the error
NANOSECONDS = {"TQ1_0": 25, "TQ2_0": 25}
COLUMNS = 4096


def optimum(kind, values, importances):
    """The least error that the type allows, in all."""
    layout = CODED[kind]
    x = values.astype(np.float64).reshape(-1, layout.weights)
    w = weights_of(kind, values, importances).reshape(x.shape)
    if not layout.sub_blocks:
        return least_errors(x, w, levels_of(kind)).sum()
    if issubclass(layout, FactorsAndMinima):
        shape = -1, layout.size
        lines = least_line_errors(x.reshape(shape), w.reshape(shape), layout.levels[-1])
        return lines.sum()
    ends = np.linspace(0.4, 1.3, 240) * layout.factor_range[1]
    scales = np.abs(x).max(1)[:, None] / np.abs(layout.levels).max() / ends
    size = layout.size
    return least_joint_errors(x, w, levels_of(kind), scales, *layout.factor_range, size).sum()


def error(kind, scored, raw):
    """The error of finished bytes, in all."""
    found = errors_of(kind, *scored, raw)
    if not CODED[kind].sub_blocks:
        found = np.minimum(found, free_errors(kind, *scored, raw))
    return found.sum()


def rows_of(kind, repeat, weights):
    """The rows of one type: ggml's, then each rounding's."""
    values, importances = some_values((weights // COLUMNS, COLUMNS))
    scored = {
        draw: some_values((8 if CODED[kind].sub_blocks else 32, COLUMNS), draw) for draw in DRAWS
    }
    least = {draw: optimum(kind, *scored[draw]) for draw in DRAWS}
    makers = {"ggml": lambda v, i: llama.quantize_rows(kind, v, i)}
    names = (*rounding.PROPOSALS, "exact")  # `importance` is that search with other weights
    for name in filter(lambda name: rounding.covers(name, kind), names):
        makers[name] = lambda v, i, name=name: rounding.round_rows(kind, name, rounding.Rows(v, i))
    found, peer = [], None
    for name, make in makers.items():
        slow = name == "cumulative"
        v = values[: max(1, len(values) // (50 if slow else 1))]
        make(v[:1], importances)
        seconds = best_time(lambda make=make, v=v: make(v, importances), 1 if slow else repeat)
        nanoseconds = seconds / v.size * 1e9
        peer = peer or nanoseconds
        excess = [100 * (error(kind, scored[d], make(*scored[d])) / least[d] - 1) for d in DRAWS]
        marks = ""
        if name == "exact":
            within = [
                nanoseconds / peer <= SPEED.get(kind, np.inf),
                nanoseconds <= NANOSECONDS.get(kind, np.inf),
                kind in NO_LIMIT or max(excess) <= EXCESS.get(kind, 0.001),
            ]
            marks = "within" if all(within) else "beyond"
        found.append(
            [
                kind,
                name,
                f"{nanoseconds:.1f}",
                f"{nanoseconds / peer:.2f}",
                *(f"{e:.4f}" for e in excess),
                marks,
            ]
        )
    return found


def two_cores(kind, weights):
    """How much faster two threads are than one."""
    values, importances = some_values((weights // COLUMNS, COLUMNS))
    rows = rounding.Rows(values, importances)
    rounding.round_rows(kind, "exact", rows.part(slice(1)))
    one, two = (
        best_time(lambda n=n: rounding.round_rows(kind, "exact", rows, threads=n), 3)
        for n in (1, 2)
    )
    return one / two


def compilation():
    """Seconds until a first block is rounded, with and without compiled kernels in the cache."""
    code = (
        "import sys, time; sys.path.insert(0, {!r}); import numpy as np; start = time.time();"
        "from quern import rounding;"
        "one = rounding.Rows(np.ones((1, 256), np.float32));"
        "kinds = [kind for kind in rounding.TYPES if rounding.covers('exact', kind)];"
        "[rounding.round_rows(kind, 'exact', one) for kind in kinds];"
        "print(time.time() - start)"
    ).format(str(HOUSE / "scripts"))
    for index in (HOUSE / "scripts/quern/rounding/kernels/__pycache__").glob("*.nbi"):
        index.unlink()
    run = [sys.executable, "-c", code]
    return [float(subprocess.run(run, capture_output=True, check=True).stdout) for _ in range(2)]


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    p.add_argument("--kinds", nargs="+", choices=CODED, default=list(CODED))
    p.add_argument("--repeat", type=int, default=5, help="runs of each; the best counts")
    p.add_argument("--weights", type=int, default=1 << 19, help="how many are rounded in each run")
    p.add_argument("--two-cores", action="store_true", help="measure two threads too")
    record.add_option(p)
    arguments = p.parse_args()
    first, again = compilation()
    rows, said = (
        [],
        f"First block of every type: {first:.1f} s with compilation, {again:.1f} s after.\n\n",
    )
    for kind in arguments.kinds:
        rows += rows_of(kind, arguments.repeat, arguments.weights)
        print(rows[-1], file=sys.stderr, flush=True)
    columns = ["type", "rounding", "ns", "× ggml", *(f"{d}: excess %" for d in DRAWS), "limits"]
    table = pd.DataFrame(rows, columns=columns)
    record.keep(table, "rounding", record=arguments.record)
    said += record.markdown(table[table["rounding"].isin(["ggml", "exact"])])
    record.show(said, "rounding", "rounding", record=arguments.record)
    if arguments.two_cores:
        ratios = [[k, f"{two_cores(k, 8 * arguments.weights):.2f}"] for k in arguments.kinds]
        table = record.markdown(pd.DataFrame(ratios, columns=["type", "two threads, ×"]))
        record.show(table, "rounding", "rounding two cores", record=arguments.record)


if __name__ == "__main__":
    main()
