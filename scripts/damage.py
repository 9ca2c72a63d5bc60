"""Measure how far the model strays when each tensor alone is rounded. In: unquantized GGUF, tokens
of a pool, perhaps an imatrix. Out: the divergence of a window for each tensor (HDF5).

An interrupted run goes on at the next tensor when it is started again.
"""

from pathlib import Path

from quern import command
from quern.gguf_files import ModelInfo
from quern.llama import Way
from quern.mix import damage
from quern.mix.inputs import Inputs
from quern.tokens.windows import read_tokens
from quern.tokens.work import Work


def main(arguments):
    inputs = Inputs.read(
        arguments.model,
        ModelInfo.read(arguments.info),
        arguments.imatrix,
        imatrix_n_ctx=arguments.imatrix_n_ctx,
    )
    work = Work(arguments.model, inputs.info, read_tokens(arguments.tokens), arguments.n_ctx)
    with work.opened(Way(**command.options_of(arguments, Way)), "editable") as model:
        damage.measure(
            *(model, inputs, work, arguments.output), turn=arguments.turn, part=arguments.part
        )


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--model", type=Path, required=True, help="unquantized GGUF file")
    p.add_argument("--info", type=Path, required=True, help="the model's JSON, from model.py")
    p.add_argument("--imatrix", type=Path, help="the imatrix that the mix will be quantized with")
    command.add_imatrix_n_ctx(p)
    p.add_argument("--tokens", type=Path, required=True, help="HDF5 from tokens.py, of the pool")
    p.add_argument("--n-ctx", type=int, default=512, help="tokens per window")
    p.add_argument(
        "--turn", type=int, default=0, help="the window's number, from 0, in a random order"
    )
    p.add_argument(
        "--part",
        type=command.part_of,
        default=(1, 1),
        metavar="K/N",
        help="only the K-th of N equal parts of the tensors",
    )
    command.add_compute(p)
    p.add_argument("--output", type=Path, required=True, help="HDF5 to write")
    command.run(main, p.parse_args())
