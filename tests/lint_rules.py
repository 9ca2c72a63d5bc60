"""`snakemake --lint` without its check that no file holds both rules and functions.

Here a stage's functions stand beside its rules, see docs/architecture.md.
"""

import sys

from snakemake.cli import main
from snakemake.linting.snakefiles import SnakefileLinter

if __name__ == "__main__":
    del SnakefileLinter.lint_mixed_func_and_rules
    main(["--lint", *sys.argv[1:]])
