"""Round a quantized model again. In: GGUF, unquantized and quantized, imatrix. Out: GGUF, JSON."""

from pathlib import Path

from quern import QuernError, command, files, rounding
from quern.gguf_files import ModelInfo, model_info
from quern.moments.stored import Moments
from quern.quantize.rerounding import reround


def main(arguments):
    name = arguments.rounding
    if name is None and arguments.imatrix is None:
        raise QuernError(
            "without an imatrix, name the rounding: better figures may be worse models."
        )
    if arguments.info and (reason := files.failure(arguments.info)):
        files.write_failure(arguments.output_info, reason, arguments.output)
        return
    if (name == rounding.COMPENSATED) != bool(arguments.moments and arguments.baseline_info):
        raise QuernError(
            "the rounding compensated needs --moments and --baseline-info, and no other takes them."
        )
    found = reround(
        arguments.baseline,
        arguments.quantized,
        name or "exact",
        arguments.output,
        imatrix=arguments.imatrix,
        imatrix_n_ctx=arguments.imatrix_n_ctx,
        moments=moments_of(arguments) if arguments.moments else None,
        threads=arguments.threads,
    )
    if arguments.output_info:
        made = files.read_json(arguments.info).get("made", {}) if arguments.info else {}
        if found.compensated:
            made |= {"compensated": {n: c._asdict() for n, c in found.compensated.items()}}
            made["notes"] = [*made.get("notes", ()), found.note]
        info = model_info(arguments.output).as_dict()
        files.write_json(arguments.output_info, info | {"made": made})


def moments_of(arguments) -> Moments:
    """The moments, of the baseline and no other model."""
    return Moments(arguments.moments, ModelInfo.read(arguments.baseline_info))


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--baseline", type=Path, required=True, help="unquantized GGUF file")
    p.add_argument("--quantized", type=Path, required=True, help="what llama.cpp made of it")
    p.add_argument("--info", type=Path, help="its JSON, from quantize.py")
    p.add_argument("--imatrix", type=Path, help="the imatrix that it was quantized with")
    command.add_imatrix_n_ctx(p)
    p.add_argument(
        "--rounding",
        choices=rounding.ROUNDINGS,
        help="rounding; if not given, exact with an imatrix, and none without",
    )
    command.add_moments(p)
    p.add_argument("--baseline-info", type=Path, help="with moments: the baseline's JSON")
    p.add_argument("--threads", type=int, default=1, help="CPU threads")
    p.add_argument("--output", type=Path, required=True, help="GGUF to write")
    p.add_argument("--output-info", type=Path, help="JSON to write")
    command.run(main, p.parse_args())
