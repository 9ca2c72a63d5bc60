"""Quantize a model. In: unquantized GGUF, perhaps an imatrix. Out: quantized GGUF, its JSON."""

from pathlib import Path

from quern import QuernError, command, files
from quern.gguf_files import ModelInfo, model_info
from quern.quantize.quantization import Recipe, quantize


def main(arguments):
    recipe = Recipe(
        type=arguments.type,
        pure=arguments.pure,
        output_type=arguments.output_type,
        token_embedding_type=arguments.token_embedding_type,
        tensor_types=tuple(_override(text) for text in arguments.tensor_type),
    )
    quantize(
        arguments.model,
        ModelInfo.read(arguments.info),
        recipe,
        arguments.output,
        imatrix=arguments.imatrix,
        prior=arguments.prior,
        unreached=arguments.unreached,
        threads=arguments.threads,
    )
    files.write_json(arguments.output_info, model_info(arguments.output).as_dict())


def _override(text: str) -> tuple[str, str]:
    pattern, equals, kind = text.rpartition("=")
    if not (pattern and equals and kind):
        raise QuernError(f"--tensor-type {text} is not of the form PATTERN=TYPE.")
    return pattern, kind


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--model", type=Path, required=True, help="unquantized GGUF file")
    p.add_argument("--info", type=Path, required=True, help="the model's JSON, from model.py")
    p.add_argument("--type", required=True, help="as llama-quantize names it, such as Q4_K_M")
    p.add_argument("--imatrix", type=Path, help="llama.cpp's GGUF imatrix, or its older .dat")
    p.add_argument(
        "--prior",
        type=float,
        default=0.0,
        help="tokens' worth of belief that all columns matter alike",
    )
    p.add_argument(
        "--unreached",
        default="neutral",
        metavar="POLICY",
        help="for weights that calibration did not reach: neutral, refuse, or a tensor type",
    )
    p.add_argument("--pure", action="store_true", help="the same type for all tensors")
    p.add_argument("--output-type", help="tensor type of the output matrix")
    p.add_argument("--token-embedding-type", help="tensor type of the token embeddings")
    p.add_argument(
        "--tensor-type",
        action="append",
        default=[],
        metavar="PATTERN=TYPE",
        help="tensor type where the name matches the regular expression; may be repeated",
    )
    p.add_argument("--threads", type=int, default=1, help="CPU threads")
    p.add_argument("--output", type=Path, required=True, help="GGUF to write")
    p.add_argument("--output-info", type=Path, required=True, help="JSON to write")
    command.run(main, p.parse_args())
