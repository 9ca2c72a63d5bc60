"""Jobs as JSON lines on standard output: `PYTHONPATH=plugins snakemake -n --logger jobs`.

Each has its rule, its wildcards, its threads, its resources, its input and its output. Snakemake
has no option for that; what it prints of jobs is for people. Warnings and failures go to standard
error.
"""

import json
import logging
import sys

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent


class LogHandler(LogHandlerBase):
    """Writes a line for each job."""

    writes_to_stream, writes_to_file = True, False
    has_filter = has_formatter = True
    needs_rulegraph = False

    def emit(self, record):
        """Write a job, or say what warns or fails."""
        try:
            if getattr(record, "event", None) == LogEvent.JOB_INFO:
                print(json.dumps(_job(record)), flush=True)
            elif record.levelno >= logging.WARNING:
                print(record.getMessage(), file=sys.stderr)
        except Exception:
            self.handleError(record)


def _job(record):
    numbers = {k: v for k, v in record.resources.items() if isinstance(v, int)}
    return {
        "rule": record.rule_name,
        "wildcards": dict(record.wildcards or {}),
        "threads": record.threads,
        "resources": {k: v for k, v in numbers.items() if not k.startswith("_")},
        "input": [str(path) for path in record.input],
        "output": [str(path) for path in record.output],
    }
