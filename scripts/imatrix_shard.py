"""Collect a shard of an importance matrix. In: GGUF, tokens. Out: sums of squared inputs (HDF5)."""

from pathlib import Path

from quern import imatrix, stage
from quern.gguf_files import ModelInfo
from quern.llama import Model
from quern.windows import read_tokens


def main(arguments):
    with Model(arguments.model, threads=arguments.threads, gpus=arguments.gpus) as model:
        imatrix.collect(
            model,
            ModelInfo.read(arguments.info),
            read_tokens(arguments.tokens),
            arguments.output,
            n_ctx=arguments.n_ctx,
            first=getattr(arguments, "from") or 0,
            last=arguments.to,
            output=arguments.output_weight,
        )


if __name__ == "__main__":
    p = stage.parser(__doc__)
    p.add_argument("--model", type=Path, required=True, help="GGUF file")
    p.add_argument("--info", type=Path, required=True, help="the model's JSON, from model.py")
    p.add_argument("--tokens", type=Path, required=True, help="HDF5 from tokens.py")
    p.add_argument("--n-ctx", type=int, default=512, help="tokens per window")
    p.add_argument(
        "--output-weight",
        action="store_true",
        help="include the output matrix, for which each graph is computed to its end",
    )
    stage.add_window_range(p)
    stage.add_compute(p)
    p.add_argument("--output", type=Path, required=True, help="HDF5 to write")
    stage.run(main, p.parse_args())
