"""Check files against the hashes in them and beside them. In: files and folders of results. Out: a
sentence for each damaged file, and how many have no hash. Ends with an error if one is damaged."""

from pathlib import Path

from tqdm import tqdm

from quern import QuernError, command
from quern.checks import whole


def main(arguments):
    paths, damaged, unknown = list(whole.found(arguments.paths)), 0, []
    sizes = [path.stat().st_size for path in paths]
    with tqdm(total=sum(sizes), unit="B", unit_scale=True, desc="check", disable=None) as bar:
        for path, size in zip(paths, sizes, strict=True):
            try:
                if not whole.check(path):
                    unknown.append(path)
            except QuernError as error:
                damaged += 1
                bar.write(str(error))
            bar.update(size)
    if damaged:
        raise QuernError(f"{damaged} of {len(paths)} files are damaged.")
    print(f"{len(paths) - len(unknown)} files are whole.")
    if unknown:
        print(f"{len(unknown)} have no hash of their own, such as {unknown[0]}.")


if __name__ == "__main__":
    p = command.parser(__doc__)
    p.add_argument(
        "paths",
        type=Path,
        nargs="*",
        default=[Path("results")],
        help="files, or folders with files, of results",
    )
    command.run(main, p.parse_args())
