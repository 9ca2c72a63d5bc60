"""Runs scripts of the house in forks of a process that has imported what they all import.

Importing takes one to three seconds, most of what a command on a small model takes. All else is as
where Python runs the script: the folder, the environment, the arguments, both streams, the exit.

    python tests/warm.py    # a request a line as JSON; answers with an exit code a line
"""

import importlib
import json
import os
import runpy
import sys
import traceback
from pathlib import Path

SCRIPTS = Path(__file__).parent.parent / "scripts"


def serve() -> None:
    """Answer requests until there are no more."""
    sys.path[0] = str(SCRIPTS)
    for script in sorted(SCRIPTS.glob("*.py")):
        importlib.import_module(script.stem)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run(**json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def run(script: str, arguments: list[str], folder: str, environment: dict, streams: str) -> None:
    """Become a script: its streams are the files `out` and `err` of the folder `streams`."""
    for number, name in enumerate(("out", "err"), start=1):
        os.dup2(os.open(Path(streams, name), os.O_WRONLY | os.O_CREAT, 0o600), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [script, *arguments]
    code = 1
    try:
        runpy.run_path(script, run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
