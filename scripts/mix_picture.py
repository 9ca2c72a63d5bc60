"""Draw mixes. In: mixes of one model (JSON). Out: a picture: what each tensor's error costs, its
type in each mix, the divergence by size beside stock mixes."""

from pathlib import Path

from quern import QuernError, command, files
from quern.mix import stored
from quern.report import mix_plots


def main(arguments):
    mixes = [stored.read(path) for path in arguments.mixes if not files.failure(path)]
    if not mixes:
        raise QuernError(f"none of the mixes could be made: {files.failure(arguments.mixes[0])}")
    mix_plots.mixes(mixes, arguments.title, arguments.picture)


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--mixes", type=Path, nargs="+", required=True, help="JSON from mix.py")
    p.add_argument("--title", default="mixes", help="title of the picture")
    p.add_argument("--picture", type=Path, required=True, help="PNG or SVG to write")
    command.run(main, p.parse_args())
