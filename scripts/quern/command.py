"""How every command starts and ends: options, logging, and failures that end in a sentence.

A command runs in a forked child. If native code kills the child, the parent still lives to say so.
"""

import argparse
import dataclasses
import errno
import json
import logging
import os
import re
import resource
import shlex
import signal
import sys
import textwrap
import threading
import time
import urllib.parse
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from . import QuernError, __version__

log = logging.getLogger("quern")

_CRASHES = (signal.SIGABRT, signal.SIGSEGV, signal.SIGFPE)  # by the code, not by the machine
_LONGEST_REASON = 2000  # characters of what a library says
_LEAST_ADDRESSES = 2 << 30  # bytes that the libraries reserve, whatever the model
# Begins the names of variables that hold, in JSON, what a plugin is made with.
OPTIONS = "QUERN_OPTIONS_"
_SECRET = re.compile(f"TOKEN|SECRET|PASSWORD|CREDENTIAL|API_?KEY|{OPTIONS}", re.IGNORECASE)


def parser(description: str) -> argparse.ArgumentParser:
    """An argument parser with the options that every command shares."""
    p = argparse.ArgumentParser(description=description, formatter_class=_Help)
    p.add_argument("--version", action="version", version=f"Quern {__version__}")
    p.add_argument(
        "--log", type=Path, metavar="FILE", default=argparse.SUPPRESS,
        help="write what llama.cpp and Quern report to this file (default: standard error)",
    )  # fmt: skip
    return p


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults that say something."""

    def _get_help_string(self, action):
        says_nothing = action.default in (None, False, [])
        return action.help if says_nothing else super()._get_help_string(action)


def option(help: str, default=dataclasses.MISSING, **argparse_options):
    """A field of a dataclass that is an option of a command as well, see `add_options`."""
    metadata = {"help": help, "argparse": argparse_options}
    return dataclasses.field(default=default, metadata=metadata)


def add_options(p: argparse.ArgumentParser, kind: type, names: Collection[str] = ()) -> None:
    """Add the options that are fields of a dataclass, with its defaults; all, or those `names`.

    A field without a default is required, one that is false by default is a switch, and one that is
    a tuple takes several values.
    """
    for field in dataclasses.fields(kind):
        if "argparse" not in field.metadata or (names and field.name not in names):
            continue
        found = {"help": field.metadata["help"]} | field.metadata["argparse"]
        if field.default is dataclasses.MISSING:
            found["required"] = True
        elif field.default is False:
            found["action"] = "store_true"
        elif isinstance(field.default, tuple):
            found |= {"default": [], "nargs": "+", "action": "extend"}
        else:
            found["default"] = field.default
            found.setdefault("type", str if field.default is None else type(field.default))
        p.add_argument(f"--{field.name.replace('_', '-')}", **found)


def options_of(arguments: argparse.Namespace, kind: type) -> dict:
    """The values of those fields of a dataclass that are among a command's arguments."""
    known = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in vars(arguments).items() if name in known}


def flags(options: Mapping) -> str:
    """Options as a shell takes them, such as `--n-ctx=512 --special`: the inverse of a parser.

    Args:
        options: values by name. None, False and an empty list give nothing, True gives the name
            alone, and a list gives the option once for each of its values.
    """
    words = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif value is not None and value is not False:
            values = value if isinstance(value, list | tuple) else [value]
            words += [f"{flag}={item}" for item in values]
    return shlex.join(words)


def add_window_range(p: argparse.ArgumentParser) -> None:
    """Add `--from` and `--to`."""
    p.add_argument("--from", type=int, metavar="WINDOW", help="first window (default: 0)")
    p.add_argument("--to", type=int, metavar="WINDOW", help="the window after the last")


def add_compute(p: argparse.ArgumentParser) -> None:
    """Add what decides where the model runs."""
    p.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads")
    p.add_argument(
        "--gpus", type=int, default=0, help="0 runs on the CPU; more puts what fits on GPUs"
    )


def add_tuning(p: argparse.ArgumentParser) -> None:
    """Add where results of tuning lie."""
    p.add_argument(
        "--tuning",
        type=Path,
        metavar="FOLDER",
        help="folder of tune.py's results, one for each size of windows; used if they are of this "
        "model and machine and change no digit",
    )


def part_of(text: str) -> tuple[int, int]:
    """`3/16` as (3, 16)."""
    number, _, parts = text.partition("/")
    try:
        found = int(number), int(parts)
        if not 1 <= found[0] <= found[1]:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError("not K/N with K from 1 to N") from None
    return found


def parsed(function: Callable) -> Callable:
    """A type of an option that is read by a function which raises QuernError."""

    def read(text):
        try:
            return function(text)
        except QuernError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def json_value(text: str):
    """A type of an option: JSON, or `@FILE` with it, since Linux limits a word to 128 KiB."""
    try:
        if text.startswith("@"):
            text = Path(text[1:]).read_text(encoding="utf-8")
        return json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"{text[:80]} is no JSON ({error})") from None


def add_moments(parser: argparse.ArgumentParser) -> None:
    """`--moments`, once or more."""
    parser.add_argument(
        "--moments",
        type=Path,
        action="append",
        help="HDF5 from moments.py, for the rounding compensated; repeat it for several",
    )


def add_imatrix_n_ctx(p: argparse.ArgumentParser) -> None:
    """Add what a `.dat` does not say."""
    p.add_argument(
        "--imatrix-n-ctx",
        type=int,
        default=512,
        help="tokens per window of a .dat, which does not contain that number",
    )


def add_recipes(p: argparse.ArgumentParser, *more: str) -> None:
    """Add the recipes that a table is made of, as one list."""
    keys = ", ".join(["name, type, imatrix, info, compare, positions", *more])
    p.add_argument(
        "--recipes",
        type=json_value,
        required=True,
        metavar="JSON",
        help=f"what was compared: a list of objects with {keys}",
    )


def run(
    main: Callable[[argparse.Namespace], None],
    arguments: argparse.Namespace,
    crashed: Callable[[argparse.Namespace, str], bool] | None = None,
) -> None:
    """Run `main(arguments)` in a child process and exit with 0, or with 1 and one sentence.

    QuernError and OSError end in their own sentence; a signal (a crash inside llama.cpp, the
    kernel's out-of-memory killer) ends in one that names the command and its files.

    Args:
        crashed: called with that sentence where native code crashed; whether that is a result, so
            that the exit is 0.
    """
    sys.stdout.reconfigure(errors="backslashreplace")  # a locale may lack what is said
    _start_log(getattr(arguments, "log", None))
    _require_addresses()
    sys.stdout.flush()
    alive_read, alive_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(alive_write)
        _die_with_parent(alive_read)
        code = 1
        try:
            code = _report(main, arguments)
        finally:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # no llama.cpp destructors after the work is done
    os.close(alive_read)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: os.kill(child, received))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the child as well
    _end_with_snakemake(child)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        sentence = _death(os.WTERMSIG(status), arguments)
        complain(sentence)
        is_result = crashed and os.WTERMSIG(status) in _CRASHES and crashed(arguments, sentence)
        sys.exit(0 if is_result else 1)
    sys.exit(os.WEXITSTATUS(status))


def _require_addresses() -> None:
    """Exit where `ulimit -v` leaves too little: BLAS then waits for memory for ever."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < _LEAST_ADDRESSES:
        complain(
            f"its address space is limited to {limit >> 20} MiB (ulimit -v), and it needs at least "
            f"{_LEAST_ADDRESSES >> 20} MiB and the model's size; raise the limit, or limit the "
            "job's memory by its cgroup."
        )
        sys.exit(1)


def _report(main, arguments) -> int:
    try:
        main(arguments)
        return 0
    except KeyboardInterrupt:
        complain("interrupted; what was computed is kept, run again to go on.")
    except QuernError as error:
        complain(str(error))
    except MemoryError as error:
        complain(f"not enough memory ({error}); lower the number of jobs or the context size.")
    except OSError as error:
        log.debug("", exc_info=True)
        what = error.strerror or str(error)
        where = f" {error.filename}" if error.filename else ""
        remedy = "; make room and run again, what was computed is kept" if _is_full(error) else ""
        complain(f"{what}{where}{remedy}.")
    except Exception as error:
        log.error("", exc_info=True)
        complain(f"a defect in Quern: {type(error).__name__}: {error}. Please report the log.")
    return 1


def _is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def complain(sentence: str) -> None:
    """Say a sentence to the user, with the command's name, on standard error and in the log."""
    command = Path(sys.argv[0]).stem
    message = _visible(masked(f"quern {command}: {sentence}"))
    print(message, file=sys.stderr)
    if any(isinstance(h, logging.FileHandler) for h in log.handlers):
        log.error(message)


def _visible(text: str) -> str:
    """A text whose characters a terminal shows and does not obey: names come from others' files."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def _death(number: int, arguments: argparse.Namespace) -> str:
    name = signal.Signals(number).name
    files = ", ".join(
        str(v) for v in vars(arguments).values() if isinstance(v, Path) and v.exists()
    )
    if number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        return f"stopped by {name}; what was computed is kept, run again to go on."
    if number == signal.SIGKILL:
        return f"killed (SIGKILL), often for want of memory, while working on {files}."
    if number == signal.SIGBUS:
        return f"{name}: a file was cut, or a disk is full or fails, while working on {files}."
    return f"native code (llama.cpp) crashed with {name} while working on {files}; see the log."


def _die_with_parent(alive: int) -> None:
    """Exit as soon as the parent is gone: then its end of the pipe is closed."""

    def watch():
        os.read(alive, 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _end_with_snakemake(child: int) -> None:
    """End the command once the Snakemake that started it is gone, however it died.

    The rules name its process in the environment. Between it and this process stands a shell, and
    that does not end with Snakemake.
    """
    number = os.environ.get("QUERN_SNAKEMAKE", "")
    started = _started(number)
    if not started:  # by hand, or in another container
        return

    def watch():
        while _started(number) == started:
            time.sleep(1)
        os.kill(child, signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _started(number: str) -> str:
    """When a process was started, in ticks of the clock; empty where there is none (any more)."""
    try:
        fields = (
            Path(f"/proc/{int(number)}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        )
        return "" if fields[0] == "Z" else fields[19]
    except (OSError, ValueError, IndexError):
        return ""


def masked(text: str) -> str:
    """A text without the secrets that stand in the environment, also as parts of addresses."""
    named = {name: value for name, value in os.environ.items() if _SECRET.search(name)}
    found = set(named.values())
    for name, value in named.items():
        found |= {*_leaves(json.loads(value))} if name.startswith(OPTIONS) else set()
    found |= {urllib.parse.quote(value, safe="") for value in found}
    for value in sorted(found, key=len, reverse=True):
        text = text.replace(value, "***") if len(value) > 5 else text
    return text


def _leaves(tree) -> Iterator[str]:
    """The lines of texts, and numbers, in a tree of mappings and lists."""
    if isinstance(tree, Mapping | list):
        for value in tree.values() if isinstance(tree, Mapping) else tree:
            yield from _leaves(value)
    else:
        yield from str(tree).splitlines()


def reason(error: Exception) -> str:
    """What an error of a library and its cause say, in a line and without the user's token."""
    said = [" ".join(str(e).split()) or type(e).__name__ for e in (error, error.__cause__) if e]
    return masked(textwrap.shorten(": ".join(s.rstrip(".:") for s in said), _LONGEST_REASON))


class _Masking(logging.Formatter):
    """Formats a record, its traceback included, without secrets."""

    def format(self, record):
        return _visible(masked(super().format(record)))


def _is_for_the_screen(record: logging.LogRecord) -> bool:
    """Whether a record of the log is a warning of Quern's own; errors `complain` has said."""
    is_own = record.name.startswith("quern.") and record.name != "quern.llama.cpp"
    return record.levelno == logging.WARNING and is_own


def _start_log(path: Path | None) -> None:
    logging.raiseExceptions = False  # a log that cannot be written must not bury what happened
    screen = logging.StreamHandler()
    handlers = [screen]
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(path, mode="w", encoding="utf-8"))
        screen.addFilter(_is_for_the_screen)
    for handler in handlers:
        handler.setFormatter(_Masking("%(asctime)s %(name)s %(levelname)s %(message)s"))
        log.addHandler(handler)
    log.setLevel(logging.DEBUG if path is not None else logging.WARNING)
