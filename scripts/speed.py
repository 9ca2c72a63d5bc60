"""Time all recipes of a model side by side. In: GGUFs, their JSON. Out: tokens per second (JSON).

An interrupted run goes on at the next round when it is started again.
"""

import argparse
import os
from pathlib import Path

# Threads wait as in llama.cpp's own programs: 3 ms of spinning is libgomp's default.
os.environ.setdefault("GOMP_SPINCOUNT", "300000")

from quern import QuernError, command, files
from quern.gguf_files import ModelInfo
from quern.llama import Way
from quern.speed import rounds


def main(arguments):
    arguments.depths = tuple(dict.fromkeys(arguments.depths)) or rounds.Timing.depths
    settings = rounds.Timing(**command.options_of(arguments, rounds.Timing))
    timed, failed = [], {}
    for entry in arguments.models:
        if reason := files.failure(entry["info"]):
            failed[entry["name"]] = reason
        else:
            timed.append(described(entry, settings))
    if not timed:
        raise QuernError(f"there is no model to time: {next(iter(failed.values()), 'none named')}")
    kept = arguments.output.with_name(f"{arguments.output.name}.partial")
    found = rounds.speeds(timed, settings, kept, Way(**command.options_of(arguments, Way)))
    files.write_json(arguments.output, found | {"failed": failed} if failed else found)
    rounds.forget(kept)


def described(entry, settings):
    """A model to time, which must have room for the settings' deepest context."""
    info = ModelInfo.read(entry["info"])
    if 0 < info.context_length < settings.n_ctx:
        raise QuernError(
            f"{entry['model']} was trained for contexts of {info.context_length} tokens, and "
            f"speed.depths with a prompt or generation needs {settings.n_ctx}; name smaller ones."
        )
    return rounds.Timed(entry["name"], Path(entry["model"]), info.sha256, info.file_bytes)


def models(text):
    """A list of objects that have what is needed."""
    try:
        return [
            {key: entry[key] for key in ("name", "model", "info")}
            for entry in command.json_value(text)
        ]
    except (KeyError, TypeError) as error:
        raise argparse.ArgumentTypeError(f"not a list of models ({error!r})") from None


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument(
        "--models",
        type=models,
        required=True,
        metavar="JSON",
        help="what to time: a list of objects with name, model (GGUF), info (its JSON)",
    )
    command.add_options(p, rounds.Timing)
    command.add_compute(p)
    p.add_argument("--output", type=Path, required=True, help="JSON to write")
    command.run(main, p.parse_args())
