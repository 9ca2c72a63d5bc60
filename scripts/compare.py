"""Compare quantized models with their baseline. In: GGUFs, baseline store. Out, for each model:
figures per position (HDF5), per window (CSV), over all and per source (JSON), and in the layout of
llama-perplexity (text).

Run again after an interruption, it goes on at the next window. With several models, the baseline's
logits are computed once for all: give each of --model, --info and the outputs as many times.
"""

import argparse
import csv
from pathlib import Path

from quern import QuernError, command, files
from quern.gguf_files import ModelInfo
from quern.llama import Way
from quern.measure import comparison, printout, statistics
from quern.measure.baseline import Baseline
from quern.tuning.taken import taken_up

OUTPUTS = ("output", "windows", "summary", "text")


def main(arguments):
    lists = [arguments.model, arguments.info, *(getattr(arguments, name) for name in OUTPUTS)]
    if len({len(items) for items in lists}) > 1:
        raise QuernError("--model, --info and each output must be given equally often.")
    jobs = []
    for model, info, output, windows, summary, text in zip(*lists, strict=True):
        if reason := files.failure(info):  # there is nothing to compare
            files.write_failure(summary, reason, output, windows, text)
        else:
            own = comparison.Comparison(model, ModelInfo.read(info), output)
            jobs.append((own, windows, summary, text))
    if jobs:
        compare(arguments, jobs)


def compare(arguments, jobs):
    """Compare models; each has its CSV, JSON and text to write."""
    models = [own for own, *_ in jobs]
    info = ModelInfo.read(arguments.baseline_info) if arguments.baseline_info else None
    with Baseline(
        *(arguments.baseline, arguments.baseline_model, info), gpus=arguments.gpus
    ) as baseline:
        way = taken_up(
            arguments.tuning,
            Way(**command.options_of(arguments, Way)),
            model_sha256=baseline.attributes["model_sha256"],
            n_ctx=int(baseline.attributes["n_ctx"]),
        )
        comparison.compare(
            *(models, baseline, way),
            kv_type=arguments.kv_type,
            flash=arguments.flash,
            first=getattr(arguments, "from"),
            last=arguments.to,
            until=comparison.Until(*arguments.until) if arguments.until else None,
        )
        noise = [
            comparison.noise(own, baseline, way, windows=arguments.noise_windows) for own in models
        ]
    for (own, windows, summary, text), moved in zip(jobs, noise, strict=True):
        result, table = comparison.summarize(own.output)
        result["noise"] = moved
        with (
            files.replacing(windows) as temporary,
            open(temporary, "w", newline="", encoding="utf-8") as file,
        ):
            rows = zip(*(column.tolist() for column in table.values()), strict=True)
            csv.writer(file, lineterminator="\n").writerows([table, *rows])
        with files.replacing(text) as temporary:
            temporary.write_text(printout.text(result), encoding="utf-8")
        files.write_json(summary, result)
        if "log" not in arguments:  # by hand
            print(printout.text(result), end="")


def figure_and_share(text: str) -> tuple[str, float]:
    """`kld_mean=0.05` as ("kld_mean", 0.05)."""
    figure, _, share = text.partition("=")
    try:
        return statistics.FIGURES[statistics.FIGURES.index(figure)], float(share)
    except ValueError:
        known = ", ".join(statistics.FIGURES)
        raise argparse.ArgumentTypeError(f"not FIGURE=SHARE; figures are {known}") from None


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--model", type=Path, nargs="+", required=True, help="quantized GGUF files")
    p.add_argument(
        "--info", type=Path, nargs="+", required=True, help="their JSON, from quantize.py"
    )
    p.add_argument("--baseline", type=Path, required=True, help="HDF5 from baseline.py")
    p.add_argument(
        "--baseline-model",
        type=Path,
        help="the baseline's GGUF, for its output weights, unless the store keeps logits",
    )
    p.add_argument(
        "--baseline-info", type=Path, help="the baseline model's JSON; also checks the store"
    )
    p.add_argument(
        "--until",
        type=figure_and_share,
        metavar="FIGURE=SHARE",
        help="stop once the 95 %% interval of a figure is within this share of it (kld_mean=0.05)",
    )
    p.add_argument("--kv-type", default="f16", help="type of the K/V cache, such as q8_0")
    p.add_argument(
        "--flash",
        choices=("auto", "none"),
        default="auto",
        help="flash attention as llama.cpp chooses it, or none",
    )
    p.add_argument(
        "--noise-windows",
        type=int,
        default=comparison.NOISE_WINDOWS,
        help="decode so many windows again in other graphs, to know the noise; 0 for none",
    )
    command.add_window_range(p)
    command.add_compute(p)
    command.add_tuning(p)
    p.add_argument("--output", type=Path, nargs="+", required=True, help="HDF5 to write")
    p.add_argument("--windows", type=Path, nargs="+", required=True, help="CSV to write")
    p.add_argument("--summary", type=Path, nargs="+", required=True, help="JSON to write")
    p.add_argument("--text", type=Path, nargs="+", required=True, help="text to write")
    command.run(main, p.parse_args())
