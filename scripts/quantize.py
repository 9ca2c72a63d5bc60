"""Quantize a model. In: unquantized GGUF, perhaps an imatrix. Out: quantized GGUF, its JSON."""

from dataclasses import replace
from pathlib import Path

from quern import RecipeError, command, files
from quern.gguf_files import ModelInfo, model_info, tensors_of
from quern.llama import computed_by
from quern.mix import stored
from quern.quantize import type_files
from quern.quantize.quantization import quantize
from quern.quantize.recipes import BY_LLAMA, Recipe


def main(arguments):
    recipe, types = Recipe.of_arguments(arguments), None
    info = ModelInfo.read(arguments.info)
    if arguments.mix:
        if reason := files.failure(arguments.mix):
            files.write_failure(arguments.output_info, reason, arguments.output)
            return
        mix = stored.read(arguments.mix, info.sha256)
        recipe = replace(recipe, type=mix["base"])
        types = {name: row["type"] for name, row in mix["tensors"].items()}
    try:
        if arguments.like:
            base, types = type_files.read(arguments.like, tensors_of(arguments.model))
            recipe = replace(recipe, type=base)
        made = quantize(
            arguments.model,
            info,
            recipe,
            arguments.output,
            imatrix=arguments.imatrix,
            imatrix_n_ctx=arguments.imatrix_n_ctx,
            unreached=arguments.unreached,
            types=types,
            threads=arguments.threads,
        )
    except RecipeError as error:
        if not failed(arguments, str(error)):
            raise
        command.complain(str(error))
        return
    content = model_info(arguments.output).as_dict()
    made = made._asdict() | {"computed_by": computed_by()}
    files.write_json(arguments.output_info, content | {"made": made})


def failed(arguments, reason: str) -> bool:
    """Keep the reason as the result, if that is asked for; whether it is."""
    if arguments.keep_failure:
        files.write_failure(arguments.output_info, reason, arguments.output)
    return arguments.keep_failure


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--model", type=Path, required=True, help="unquantized GGUF file")
    p.add_argument("--info", type=Path, required=True, help="the model's JSON, from model.py")
    command.add_options(p, Recipe, BY_LLAMA)
    p.add_argument("--mix", type=Path, help="JSON from mix.py, in place of the type")
    p.add_argument(
        "--like", type=Path, help="GGUF or tensor-type file whose types are used, in its place"
    )
    p.add_argument("--imatrix", type=Path, help="llama.cpp's GGUF imatrix, or its older .dat")
    command.add_imatrix_n_ctx(p)
    p.add_argument(
        "--unreached",
        default="neutral",
        metavar="POLICY",
        help="for weights that calibration did not reach: neutral, refuse, or a tensor type",
    )
    p.add_argument(
        "--keep-failure",
        action="store_true",
        help="if llama.cpp refuses the recipe or crashes on it, write the reason to the JSON and "
        "succeed, so that a sweep's other recipes are summarized",
    )
    p.add_argument("--threads", type=int, default=1, help="CPU threads")
    p.add_argument("--output", type=Path, required=True, help="GGUF to write")
    p.add_argument("--output-info", type=Path, required=True, help="JSON to write")
    command.run(main, p.parse_args(), failed)
