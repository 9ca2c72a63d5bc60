"""Draw the error of each rounding for every direction of three values. Out: a picture."""

from pathlib import Path

from quern import command
from quern.rounding import pictures


def main(arguments):
    pictures.draw(arguments.output, arguments.height)


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--height", type=int, default=1024, help="pixels; spheres are twice as wide")
    p.add_argument("--output", type=Path, required=True, help="PNG to write")
    command.run(main, p.parse_args())
