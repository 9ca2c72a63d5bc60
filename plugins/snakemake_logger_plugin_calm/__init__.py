"""A calm view of a run: `PYTHONPATH=plugins snakemake --logger calm --cores all`.

In a terminal, one line for each running job with what it works on, and one for all of the run;
elsewhere (in CI, in a file) a line when a job begins, and one when it ended. Failures are said in
full. Snakemake's own log file keeps everything.
"""

import logging
import os
import sys
import threading
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

_LEFT_OUT = {"all"}  # a rule that makes nothing


class LogHandler(LogHandlerBase):
    """Shows Snakemake's events."""

    writes_to_stream, writes_to_file = True, False
    has_filter = has_formatter = True
    needs_rulegraph = False

    def __post_init__(self):
        is_terminal = sys.stderr.isatty() and not self.common_settings.dryrun
        self._view = _Live() if is_terminal else _Lines()
        self._jobs = {}  # what is known of jobs that run: what they do, since when
        self._total = 0

    def emit(self, record):
        """Show an event, or say a message that warns or fails."""
        try:
            self._show(record)
        except Exception:
            self.handleError(record)

    def _show(self, record):
        event = getattr(record, "event", None)
        if event == LogEvent.RUN_INFO:
            self._count(record.stats["total"])
        elif event == LogEvent.PROGRESS:
            self._count(record.total)
        elif event == LogEvent.JOB_INFO:
            self._begin(record)
        elif event == LogEvent.JOB_FINISHED:
            self._end(record.job_id)
        elif event == LogEvent.JOB_ERROR:
            logs = f"; see {', '.join(record.log)}" if record.log else ""
            self._end(record.jobid, f"FAILED{logs}")
        elif _matters(record, event):
            self._view.say(record.getMessage())

    def _count(self, total):
        """How many jobs there are; a checkpoint adds some."""
        self._total = total
        self._view.total(total)

    def _begin(self, record):
        if record.rule_name in _LEFT_OUT:
            return
        on = ", ".join(str(value) for value in (record.wildcards or {}).values())
        what = f"{record.rule_name.replace('_', ' ')}  {on}".rstrip()
        if self.common_settings.dryrun:
            self._view.say(f"would run  {what}")
        else:
            self._jobs[record.jobid] = what, time.monotonic()
            self._view.begin(record.jobid, what)

    def _end(self, jobid, failure=""):
        """Forget a job that ended; one that failed may be told of more than once."""
        what, since = self._jobs.pop(jobid, (None, 0))
        if what or not failure:
            self._view.end(jobid, what, time.monotonic() - since, failure)

    def close(self):
        self._view.close()
        super().close()


def _matters(record, event):
    """Whether a message is one that the user must read."""
    is_idle = event is None and "Nothing to be done" in str(record.msg)
    return is_idle or event == LogEvent.ERROR or record.levelno >= logging.WARNING


class _Lines:
    """A line when a job begins, and one when it ended."""

    def __init__(self):
        self._done, self._of = 0, 0

    def total(self, of):
        self._of = of

    def begin(self, jobid, what):
        self.say(f"[{self._done}/{self._of}] {what} …")

    def end(self, jobid, what, seconds, failure):
        self._done += not failure
        if what:
            self.say(f"[{self._done}/{self._of}] {what}  {failure or f'{seconds:.0f} s'}")

    def say(self, message):
        print(message, file=sys.stderr, flush=True)

    def close(self):
        pass


class _Live:
    """Lines at the foot of the terminal, above which everything else passes.

    Jobs share standard error with Snakemake, and their own bars would break these lines. So it
    becomes a pipe, which is no terminal to them; what comes through it is printed above the lines.
    """

    def __init__(self):
        self._terminal = os.dup(2)
        self._console = Console(file=os.fdopen(os.dup(2), "w"), highlight=False)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", table_column=Column(no_wrap=True, ratio=1)),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            console=self._console,
            expand=True,
            refresh_per_second=4,
        )
        self._all = self._progress.add_task("[bold]all jobs", total=None, count="")
        self._done, self._of, self._tasks = 0, 0, {}
        read, write = os.pipe()
        os.dup2(write, 2)
        os.close(write)
        self._reader = threading.Thread(target=self._pass_on, args=(read,), daemon=True)
        self._reader.start()
        self._progress.start()

    def _pass_on(self, read):
        with os.fdopen(read, errors="replace") as pipe:
            for line in pipe:
                self.say(line.rstrip("\n"))

    def total(self, of):
        self._of = of
        self._progress.update(
            self._all, total=of, completed=self._done, count=f"{self._done} of {of}"
        )

    def begin(self, jobid, what):
        self._tasks[jobid] = self._progress.add_task(_plain(what), total=None, count="")

    def end(self, jobid, what, seconds, failure):
        if jobid in self._tasks:
            self._progress.remove_task(self._tasks.pop(jobid))
        if failure:
            self.say(f"{what}  {failure}")
        else:
            self._done += 1
            self.total(self._of)

    def say(self, message):
        self._console.print(message, markup=False)

    def close(self):
        if self._reader is None:
            return
        sys.stderr.flush()
        os.dup2(self._terminal, 2)  # the pipe ends, unless a job still holds it
        self._reader.join(timeout=1)
        self._reader = None
        self._progress.stop()
        self._console.file.flush()


def _plain(text):
    """Text whose brackets are no markup."""
    return text.replace("[", r"\[")
