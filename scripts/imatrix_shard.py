"""Collect a shard of an importance matrix. In: GGUF, tokens. Out: sums of squared inputs (HDF5)."""

from pathlib import Path

from quern import QuernError, command
from quern.gguf_files import ModelInfo
from quern.imatrix.shards import collect
from quern.llama import Way
from quern.tokens.windows import read_tokens
from quern.tokens.work import Work
from quern.tuning.taken import taken_up


def main(arguments):
    if arguments.part and (getattr(arguments, "from"), arguments.to) != (None, None):
        raise QuernError("--part stands in place of --from and --to; give one or the other.")
    info = ModelInfo.read(arguments.info)
    work = Work(arguments.model, info, read_tokens(arguments.tokens), arguments.n_ctx)
    usual = Way(**command.options_of(arguments, Way))
    way = taken_up(arguments.tuning, usual, model_sha256=info.sha256, n_ctx=work.n_ctx)
    with work.opened(way) as model:
        collect(
            *(model, work, arguments.output),
            first=getattr(arguments, "from") or 0,
            last=arguments.to,
            part=arguments.part,
            output_weight=arguments.output_weight,
        )


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--model", type=Path, required=True, help="GGUF file")
    p.add_argument("--info", type=Path, required=True, help="the model's JSON, from model.py")
    p.add_argument("--tokens", type=Path, required=True, help="HDF5 from tokens.py")
    p.add_argument("--n-ctx", type=int, default=512, help="tokens per window")
    p.add_argument(
        "--output-weight",
        action="store_true",
        help="include the output matrix; each graph is then computed to its end",
    )
    command.add_window_range(p)
    p.add_argument(
        "--part",
        type=command.part_of,
        metavar="K/N",
        help="the K-th of N equal parts of the text's windows, in place of --from and --to",
    )
    command.add_compute(p)
    command.add_tuning(p)
    p.add_argument("--output", type=Path, required=True, help="HDF5 to write")
    command.run(main, p.parse_args())
