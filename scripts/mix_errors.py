"""Compare the rounding errors of types, tensor by tensor. In: unquantized GGUF, perhaps an imatrix.
Out: each error over that of the type in which damage is measured (JSON)."""

from pathlib import Path

from quern import command, files, rounding
from quern.ggml_types import CHOSEN
from quern.gguf_files import ModelInfo
from quern.mix import errors
from quern.mix.inputs import Inputs
from quern.moments.stored import Moments
from quern.quantize.recipes import GGML


def main(arguments):
    inputs = Inputs.read(
        arguments.model,
        ModelInfo.read(arguments.info),
        arguments.imatrix,
        imatrix_n_ctx=arguments.imatrix_n_ctx,
    )
    types = dict.fromkeys([*CHOSEN, *arguments.types])
    table = errors.table(
        inputs.free(list(types)),
        inputs.sources,
        inputs.importances,
        arguments.rounding,
        moments=Moments(arguments.moments, inputs.info) if arguments.moments else None,
        threads=arguments.threads,
    )
    content = {"errors": table, "rounding": arguments.rounding} | errors.origin(inputs)
    files.write_json(arguments.output, content)


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--model", type=Path, required=True, help="unquantized GGUF file")
    p.add_argument("--info", type=Path, required=True, help="the model's JSON, from model.py")
    p.add_argument("--imatrix", type=Path, help="the imatrix that the mix will be quantized with")
    command.add_imatrix_n_ctx(p)
    p.add_argument(
        "--types", action="append", default=[], metavar="TYPE", help="a type besides the usual ones"
    )
    p.add_argument(
        "--rounding", choices=(GGML, *rounding.ROUNDINGS), default=GGML, help="as of the recipe"
    )
    command.add_moments(p)
    p.add_argument("--threads", type=int, default=1, help="CPU threads")
    p.add_argument("--output", type=Path, required=True, help="JSON to write")
    command.run(main, p.parse_args())
