"""Make a folder to upload. In: a model's folder of results. Out: a folder with models, imatrices,
recipe maps, a record of what was measured, a model card, hashes.

Nothing is uploaded. The command that uploads it is printed.
"""

import shlex
from pathlib import Path

from quern import command, published
from quern.release import layout


def main(arguments):
    results = layout.Results(
        arguments.results,
        arguments.title or arguments.results.name,
        arguments.corpora,
        arguments.imatrices,
        dict(named(text) for text in arguments.imatrix_files),
        arguments.memory,
        arguments.speed,
        arguments.pages,
    )
    chosen = arguments.recipes if isinstance(arguments.recipes, list) else [arguments.recipes]
    settings = layout.ReleaseSettings(**command.options_of(arguments, layout.ReleaseSettings))
    stem = layout.lay_out(results, arguments.sweep, chosen, settings, arguments.output)
    repository = f"{settings.quantized_by or 'OWNER'}/{stem}-GGUF"
    words = ["hf", "upload", repository, str(arguments.output), "."]
    print(f"{arguments.output} is ready. To upload it: {shlex.join(words)}")


def named(text):
    """`NAME=SHA256=FILE` as a name, and the file's hash and its name."""
    name, sha256, path = text.split("=", 2)
    return name, {"file": published.file_name(path), "sha256": sha256}


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument("--results", type=Path, required=True, help="the model's folder of results")
    p.add_argument("--title", help="the model's name (default: that of the folder)")
    p.add_argument("--corpora", nargs="+", required=True, help="texts that were measured on")
    p.add_argument(
        "--sweep",
        type=command.json_value,
        required=True,
        metavar="JSON",
        help="all recipes: a list of objects with name, type, imatrix, rounding, and "
        "foreign where somebody else made it",
    )
    p.add_argument(
        "--recipes",
        nargs="+",
        default=layout.PER_BUDGET,
        help="names of those to release, 'per budget' or 'all'",
    )
    p.add_argument(
        "--imatrices", nargs="*", default=[], help="imatrices that were collected, by name"
    )
    p.add_argument(
        "--imatrix-files",
        nargs="*",
        default=[],
        metavar="NAME=SHA256=FILE",
        help="imatrices of somebody else's, which are not released; of FILE its name is told",
    )
    p.add_argument("--memory", action="store_true", help="describe the memory of each recipe")
    p.add_argument("--speed", action="store_true", help="describe the speed of each recipe")
    p.add_argument("--pages", action="store_true", help="include the report's pages and answers")
    command.add_options(p, layout.ReleaseSettings)
    p.add_argument("--output", type=Path, required=True, help="the folder to make")
    command.run(main, p.parse_args())
