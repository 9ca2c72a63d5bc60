"""Compute the memory that a quantized model takes. In: GGUF, its JSON. Out: JSON.

That is its tensors and, for each context, the K/V cache and llama.cpp's buffers. No weights are
read.
"""

from pathlib import Path

from quern import command, files, llama
from quern.gguf_files import ModelInfo
from quern.memory.footprint import footprint


def main(arguments):
    if reason := files.failure(arguments.info):
        files.write_failure(arguments.output, reason)
        return
    info = ModelInfo.read(arguments.info)
    found = footprint(
        arguments.model,
        info,
        contexts=arguments.contexts,
        kv_types=arguments.kv or [llama.KV_TYPE],
        gpus=arguments.gpus,
    )
    provenance = {"sha256": info.sha256, "computed_by": llama.computed_by(arguments.gpus)}
    files.write_json(
        arguments.output, {"recipe": arguments.name} | found | {"provenance": provenance}
    )


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--model", type=Path, required=True, help="quantized GGUF file")
    p.add_argument("--info", type=Path, required=True, help="its JSON, from quantize.py")
    p.add_argument("--name", required=True, help="what the recipe is called")
    p.add_argument(
        "--contexts",
        type=int,
        nargs="+",
        action="extend",
        help="tokens (default: 4096, or what the model was trained for)",
    )
    p.add_argument("--kv", nargs="+", action="extend", help="types of the K/V cache; default f16")
    p.add_argument("--gpus", type=int, default=0, help="0: on the CPU; more: layers on GPUs")
    p.add_argument("--output", type=Path, required=True, help="JSON to write")
    command.run(main, p.parse_args())
