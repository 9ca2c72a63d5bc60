"""Find the fastest way to decode windows on this machine. In: GGUF, tokens. Out: JSON, and all
trials (CSV).

An interrupted run goes on at the next round when it is started again.
"""

import csv
from pathlib import Path

from quern import QuernError, command, files
from quern.gguf_files import ModelInfo
from quern.llama import Way
from quern.speed.rounds import forget
from quern.tokens.windows import read_tokens
from quern.tokens.work import Work
from quern.tuning import choice, grid, rounds


def main(arguments):
    settings = rounds.Trials(**command.options_of(arguments, rounds.Trials))
    if settings.windows < 2 or settings.windows % 2 or settings.repeats < 2:
        raise QuernError("tuning needs an even number of windows and at least 2 repeats.")
    info, tokens = ModelInfo.read(arguments.info), read_tokens(arguments.tokens)
    work = Work(arguments.model, info, tokens, settings.n_ctx)
    n = work.count()
    numbers = [i % n for i in range(rounds.WARM + settings.windows)]
    kept = arguments.output.with_name(f"{arguments.output.name}.partial")
    found = rounds.trials(
        *(arguments.model, info.sha256, work.windows(numbers)[:], settings, kept),
        Way(**command.options_of(arguments, Way)),
    )
    with (
        files.replacing(arguments.trials) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*grid.TRIED, "round", "seconds"])
        for number, seconds in enumerate(found["rounds"]):
            for way in map(grid.way_of, found["ways"]):
                values = grid.described(way).values()
                writer.writerow([*values, number, seconds[grid.label(way)]])
    result = choice.choose(found)
    files.write_json(arguments.output, result)
    forget(kept)
    if "log" not in arguments:  # by hand
        print(result["said"])


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--model", type=Path, required=True, help="GGUF file")
    p.add_argument("--info", type=Path, required=True, help="the model's JSON, from model.py")
    p.add_argument("--tokens", type=Path, required=True, help="HDF5 from tokens.py")
    command.add_options(p, rounds.Trials)
    command.add_compute(p)
    p.add_argument("--output", type=Path, required=True, help="JSON to write")
    p.add_argument("--trials", type=Path, required=True, help="CSV to write")
    command.run(main, p.parse_args())
