"""Turn a base file of llama-perplexity into a baseline store. In: the file that its
--kl-divergence-base wrote. Out: baseline store (HDF5), facts (JSON).

Its log-probabilities are 16-bit numbers, clipped 16 nats below the likeliest token; the store says
so, and so does every comparison with it.
"""

from pathlib import Path

from quern import command, files
from quern.measure import base_file


def main(arguments):
    facts = base_file.convert(
        arguments.base, arguments.output, getattr(arguments, "from"), arguments.to
    )
    files.write_json(arguments.facts, facts)


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--base", type=Path, required=True, help="file of llama-perplexity")
    command.add_window_range(p)
    p.add_argument("--output", type=Path, required=True, help="HDF5 to write")
    p.add_argument("--facts", type=Path, required=True, help="JSON to write")
    command.run(main, p.parse_args())
