"""What a run on a Slurm cluster looks at before it sends its first job.

Each of these would be a wait without end and without a word, or work that is done twice.

Needs: nothing.
"""

import re
import shlex
import subprocess
from pathlib import Path

from snakemake.exceptions import WorkflowError

FORGOTTEN = 200  # seconds; the plugin may ask for the states of jobs no more often than each 180


def said_by(command):
    """The lines that a command of Slurm's says; none where it fails."""
    result = subprocess.run(command.split(), capture_output=True, text=True)
    return result.stdout.splitlines() if result.returncode == 0 else []


def check_states(status_command):
    """Refuse where nothing would ever tell that a job has ended."""
    entries = [line.partition("=") for line in said_by("scontrol show config")]
    cluster = {key.strip(): value.strip() for key, _, value in entries}
    if cluster.get("AccountingStorageType") not in ("accounting_storage/none", "(null)"):
        return
    if status_command == "sacct":
        raise WorkflowError(
            "this cluster keeps no accounts, so `sacct` never says that a job has ended; give "
            "--slurm-status-command squeue, as profiles/slurm does."
        )
    if int(re.match(r"\d+", cluster["MinJobAge"])[0]) < FORGOTTEN:
        raise WorkflowError(
            f"this cluster keeps no accounts and forgets a job {cluster['MinJobAge']} after its end, "
            f"which may be before it is asked for; its administrators can set MinJobAge={FORGOTTEN}."
        )


def check_cores(asked):
    """Refuse to ask for more cores than any node has: such jobs stay in the queue for ever."""
    largest = max(map(int, said_by("sinfo --Node --noheader --format=%c")), default=asked)
    if asked > largest:
        raise WorkflowError(
            f"no node of this cluster has {asked} cores; the largest has {largest}: give "
            f"--cores {largest}, or write it into the profile."
        )


def check_earlier(logs):
    """Refuse while jobs of a run that was killed are at work: what they make would be made twice."""
    lines = said_by("squeue --me --noheader --Format=JobID:|,STDOUT:|")
    jobs = [line.split("|") for line in lines]
    left = [number for number, log, *_ in jobs if log.startswith(f"{logs}/")]
    if left:
        raise WorkflowError(
            f"jobs of an earlier run are still at work in this folder: {', '.join(left)}; wait until "
            f"`squeue --me` has them no more, or end them by `scancel {' '.join(left)}`."
        )


def check_records(dag):
    """Refuse results that were finished after Snakemake had died: no change would make them stale."""
    bare = [job for job in dag.jobs if dag.reason(job).no_metadata and not dag.needrun(job)]
    paths = [shlex.quote(str(path)) for job in bare for path in job.output]
    if paths:
        raise WorkflowError(
            "results that were finished without Snakemake carry no record of what they were made "
            f"from: {', '.join(paths)}; if nothing was changed since, keep them by `snakemake "
            f"--touch --force {' '.join(paths)}`; otherwise delete them."
        )


onstart:
    if workflow.executor_plugin.name == "slurm":
        check_states(workflow.executor_settings.status_command)
        check_cores(workflow.resource_settings.cores or 8)
        check_earlier(Path(".snakemake/slurm_logs").resolve())  # where the plugin has its logs
        check_records(workflow.dag)
