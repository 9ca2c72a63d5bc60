"""Collect an importance matrix. In: GGUF, tokens. Out: llama.cpp's GGUF imatrix."""

from pathlib import Path

from quern import imatrix, stage
from quern.gguf_files import ModelInfo
from quern.llama import Model
from quern.windows import read_tokens


def main(arguments):
    info = ModelInfo.read(arguments.info)
    tokens = read_tokens(arguments.tokens)
    with Model(arguments.model, threads=arguments.threads, gpus=arguments.gpus) as model:
        result = imatrix.collect(
            model,
            info,
            tokens,
            n_ctx=arguments.n_ctx,
            dataset=arguments.dataset,
            limit=arguments.windows,
            first=getattr(arguments, "from"),
            last=arguments.to,
        )
    result.write(arguments.output)


if __name__ == "__main__":
    p = stage.parser(__doc__)
    p.add_argument("--model", type=Path, required=True, help="GGUF file")
    p.add_argument("--info", type=Path, required=True, help="the model's JSON, from model.py")
    p.add_argument("--tokens", type=Path, required=True, help="HDF5 from tokens.py")
    p.add_argument("--n-ctx", type=int, default=512, help="tokens per window")
    p.add_argument("--windows", type=int, help="use at most this many windows of the text")
    p.add_argument("--dataset", default="calibration", help="recorded as the imatrix's origin")
    stage.add_window_range(p)
    stage.add_compute(p)
    p.add_argument("--output", type=Path, required=True, help="GGUF to write")
    stage.run(main, p.parse_args())
