"""A real Slurm on this machine: a node of four cores, two GPUs that are not there, no accounts."""

import contextlib
import fcntl
import importlib.util
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

ETC = Path("/etc/slurm")  # the only place where the plugin's jobs look
OURS = "# Written by Quern's tests, which remove it."
SLURM = """{ours}
ClusterName=quern
SlurmctldHost=localhost
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
SlurmdParameters=config_overrides
KillWait=1
GresTypes=gpu
NodeName=localhost NodeAddr=127.0.0.1 CPUs=4 RealMemory=100000 Gres=gpu:2
PartitionName=all Nodes=ALL Default=YES
"""
GRES = """{ours}
NodeName=localhost Name=gpu File=/dev/null
NodeName=localhost Name=gpu File=/dev/zero
"""


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def until(true, seconds: float, what: str):
    """Wait for something; return what it is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.2)
    raise AssertionError(f"after {seconds} s still not: {what}")


def free_ports(n: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def answers(*command: str) -> bool:
    return subprocess.run(command, capture_output=True).returncode == 0


@contextlib.contextmanager
def daemon(*command: str, log: Path):
    """A program in the background, which ends with the tests however these end."""
    command = ("setpriv", "--pdeathsig", "TERM", *command)
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def started(folder: Path):
    """Munge, unless it runs, and Slurm's two daemons; they end with their jobs."""
    values = {"ours": OURS, "folder": folder, "ports": free_ports(2)}
    for name in ("state", "spool"):
        (folder / name).mkdir()
    ETC.mkdir(exist_ok=True)
    written = {"slurm.conf": SLURM.format(**values), "gres.conf": GRES.format(**values)}
    with contextlib.ExitStack() as stack:
        for name, text in written.items():
            (ETC / name).write_text(text)
            stack.callback((ETC / name).unlink, missing_ok=True)
        if not answers("munge", "-n"):
            Path("/run/munge").mkdir(exist_ok=True)
            shutil.chown("/run/munge", "munge", "munge")
            munged = ("runuser", "-u", "munge", "--", "munged", "--foreground", "--force")
            stack.enter_context(daemon(*munged, log=folder / "munged.log"))
            until(lambda: answers("munge", "-n"), 20, "munge at work")
        stack.enter_context(daemon("slurmctld", "-D", log=folder / "slurmctld.log"))
        slurmd = ("slurmd", "-D", "-N", "localhost")
        stack.enter_context(daemon(*slurmd, log=folder / "slurmd.log"))
        idle = ("sinfo", "--noheader", "--format=%T")
        until(lambda: answers(*idle) and said(*idle).strip() == "idle", 60, "an idle node")
        yield
        answers("scancel", "--me")
        until(lambda: not said("squeue", "--me", "--noheader"), 60, "an empty queue")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """The cluster; tests are skipped, with what is missing, where there can be none."""
    programs = [name for name in ("munged", "slurmctld", "slurmd") if not shutil.which(name)]
    if programs:
        pytest.skip(f"no {', '.join(programs)} (slurm-wlm, munge): no cluster is tried")
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip("no snakemake-executor-plugin-slurm (requirements-slurm.txt): none is tried")
    if os.geteuid() != 0:
        pytest.skip("Slurm's daemons need root: no cluster is tried")
    if (ETC / "slurm.conf").exists() and OURS not in (ETC / "slurm.conf").read_text():
        pytest.skip(f"{ETC} belongs to a cluster: none is tried beside it")
    with Path("/run/quern-slurm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with started(tmp_path_factory.mktemp("slurm")):
            yield
