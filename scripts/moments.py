"""Collect second moments of the inputs of some layers. In: GGUF, tokens. Out: Σ x xᵀ (HDF5)."""

from pathlib import Path

from quern import command
from quern.gguf_files import ModelInfo
from quern.llama import Way
from quern.moments.collect import collect
from quern.tokens.windows import read_tokens
from quern.tokens.work import Work


def main(arguments):
    info, tokens = ModelInfo.read(arguments.info), read_tokens(arguments.tokens)
    work = Work(arguments.model, info, tokens, arguments.n_ctx)
    with work.opened(Way(**command.options_of(arguments, Way))) as model:
        collect(
            *(model, work, arguments.output),
            windows=arguments.windows,
            part=arguments.part,
        )


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--model", type=Path, required=True, help="GGUF file")
    p.add_argument("--info", type=Path, required=True, help="the model's JSON, from model.py")
    p.add_argument("--tokens", type=Path, required=True, help="HDF5 from tokens.py")
    p.add_argument("--n-ctx", type=int, default=512, help="tokens per window")
    p.add_argument("--windows", type=int, default=512, help="windows of the text, at most")
    p.add_argument(
        "--part",
        type=command.part_of,
        default=(1, 1),
        metavar="K/N",
        help="only the K-th of N equal parts of the layers",
    )
    command.add_compute(p)
    p.add_argument("--output", type=Path, required=True, help="HDF5 to write")
    command.run(main, p.parse_args())
