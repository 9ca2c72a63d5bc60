"""Find the mix of types for a size. In: unquantized GGUF, damages, errors, tokens of the pool,
perhaps an imatrix. Out: the mix, its proof beside stock mixes (JSON), and the mix as llama-quantize
reads it (text)."""

import argparse
from pathlib import Path

from quern import QuernError, RecipeError, command, files, rounding
from quern.ggml_types import CHOSEN
from quern.gguf_files import ModelInfo
from quern.llama import Way, computed_by
from quern.mix import damage, errors, search
from quern.mix.editing import Editor
from quern.mix.inputs import Inputs
from quern.quantize import type_files
from quern.quantize.quantization import header_bytes
from quern.quantize.recipes import GGML, KEY
from quern.sizes import Size
from quern.tokens.windows import read_tokens
from quern.tokens.work import Work


def main(arguments):
    try:
        found = mix(arguments)
    except RecipeError as error:
        if not arguments.keep_failure:
            raise
        files.write_failure(arguments.output, str(error), arguments.type_file)
        command.complain(str(error))
        return
    types = {name: row["type"] for name, row in found["tensors"].items()}
    with files.replacing(arguments.type_file) as temporary:
        temporary.write_text(type_files.text(types), encoding="utf-8")
    files.write_json(arguments.output, found)


def mix(arguments) -> dict:
    """What is written of the mix."""
    inputs = Inputs.read(
        arguments.model,
        ModelInfo.read(arguments.info),
        arguments.imatrix,
        imatrix_n_ctx=arguments.imatrix_n_ctx,
        folder=arguments.output.parent,
    )
    work = Work(arguments.model, inputs.info, read_tokens(arguments.tokens), arguments.n_ctx)
    measured = damage.read(arguments.damage, inputs, work)
    free = inputs.free(
        arguments.types or CHOSEN,
        unused=measured.unused,
        fixed=dict(arguments.fixed),
        fast_on=arguments.fast_on,
    )
    ratios = errors.read(arguments.errors, inputs)
    used = set(measured.windows)
    if min(len(used), arguments.proof_windows) < 2:
        raise QuernError("a mix needs 2 windows of damages and 2 to prove it; one has no interval.")
    others = [w for w in damage.windows_of(work).tolist() if w not in used]
    if len(others) < arguments.proof_windows:
        raise QuernError(
            f"{arguments.tokens} has {len(others)} windows of {arguments.n_ctx} besides those of "
            f"the damages, {arguments.proof_windows} are needed; give the corpus more text."
        )
    held_back = sorted(others[: arguments.proof_windows])
    own = {} if arguments.rounding == GGML else {KEY: arguments.rounding}
    with (
        work.opened(Way(**command.options_of(arguments, Way)), "editable") as model,
        Editor(model, inputs.sources, inputs.importances, arguments.rounding) as editor,
    ):
        found = search.search(
            inputs,
            free,
            search.stock_plans(inputs),
            search.Damages(measured.kld, ratios, measured.unused),
            arguments.size,
            header=header_bytes(arguments.model, {**inputs.metadata, **own}),
            editor=editor,
            measured_on=work.windows(measured.windows)[:],
            held_back=work.windows(held_back)[:],
            folder=arguments.output.parent,
        )
    return found | {
        "windows": {"damage": measured.windows, "proof": held_back},
        "rounding": arguments.rounding,
        "computed_by": computed_by(arguments.gpus),
        "model_sha256": inputs.info.sha256,
        "imatrix_sha256": inputs.imatrix_sha256,
    }


def pattern_and_type(text: str) -> tuple[str, str]:
    """`attn_v=Q6_K` as a pair."""
    pattern, _, kind = text.rpartition("=")
    if not pattern or not kind:
        raise argparse.ArgumentTypeError("not of the form PATTERN=TYPE")
    return pattern, kind


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--model", type=Path, required=True, help="unquantized GGUF file")
    p.add_argument("--info", type=Path, required=True, help="the model's JSON, from model.py")
    p.add_argument("--imatrix", type=Path, help="the imatrix that it will be quantized with")
    command.add_imatrix_n_ctx(p)
    p.add_argument("--damage", type=Path, nargs="+", required=True, help="HDF5 from damage.py")
    p.add_argument("--errors", type=Path, required=True, help="JSON from mix_errors.py")
    p.add_argument("--tokens", type=Path, required=True, help="HDF5 from tokens.py, of the pool")
    p.add_argument("--n-ctx", type=int, default=512, help="tokens per window")
    p.add_argument("--proof-windows", type=int, default=8, help="windows on which mixes are proved")
    p.add_argument(
        "--size",
        type=command.parsed(Size.parse),
        required=True,
        help="bytes, 4.3GB, '4.5 bpw', or 'as Q4_K_M'",
    )
    p.add_argument(
        "--types", action="append", metavar="TYPE", help="a tensor type to choose from; repeat it"
    )
    p.add_argument(
        "--fixed",
        type=pattern_and_type,
        action="append",
        default=[],
        metavar="PATTERN=TYPE",
        help="the type of tensors whose names match a regular expression",
    )
    p.add_argument(
        "--fast-on",
        choices=("any", "cpu"),
        default="any",
        help="cpu leaves out types with tables of points, which are slow there",
    )
    p.add_argument(
        "--rounding", choices=(GGML, *rounding.ROUNDINGS), default=GGML, help="as of the recipe"
    )
    p.add_argument(
        "--keep-failure",
        action="store_true",
        help="where there is no such mix, write the reason to the JSON and succeed, so that the "
        "others are summarized",
    )
    command.add_compute(p)
    p.add_argument("--output", type=Path, required=True, help="JSON to write")
    p.add_argument("--type-file", type=Path, required=True, help="text to write")
    command.run(main, p.parse_args())
