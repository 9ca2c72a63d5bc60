"""What is still to be done and what it costs, by stage, from the jobs of a dry run."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from ..sizes import shown
from . import rates

HEADER = ("stage", "jobs", "submitted", "core hours", "GPU hours", "longest", "memory", "written")


@dataclass(frozen=True)
class Job:
    """What a dry run says of a job.

    Attributes:
        rule: its name.
        threads, gpus: what it holds for as long as it runs.
        seconds: that it is expected to take.
        memory: bytes that it asks for.
        disk: bytes that it writes.
        inputs, outputs: paths.
        scratch: bytes of its disk that are free again after it.
    """

    rule: str
    threads: int = 1
    gpus: int = 0
    seconds: float = rates.LIGHT
    memory: float = 0.0
    disk: float = 0.0
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    scratch: float = 0.0

    @classmethod
    def of(cls, entry: Mapping) -> "Job":
        """A job as `plugins/snakemake_logger_plugin_jobs` writes it."""
        resources = entry["resources"]
        return cls(
            entry["rule"],
            entry["threads"],
            resources.get("gpu", 0),
            resources.get("seconds", rates.LIGHT),
            1e6 * resources.get("mem_mb", 0),
            1e6 * resources.get("disk_mb", 0),
            tuple(entry["input"]),
            tuple(entry["output"]),
            1e6 * resources.get("scratch_mb", 0),
        )

    @property
    def core_hours(self) -> float:
        return self.threads * self.seconds / 3600

    @property
    def gpu_hours(self) -> float:
        return self.gpus * self.seconds / 3600


@dataclass
class Sums:
    """Sums over the jobs of a stage.

    Attributes:
        longest: seconds of the longest job.
        memory: bytes that the largest asks for.
        disk: bytes that all of them write.
    """

    jobs: int = 0
    submitted: int = 0
    core_hours: float = 0.0
    gpu_hours: float = 0.0
    longest: float = 0.0
    memory: float = 0.0
    disk: float = 0.0

    def add(self, job: Job, is_local: bool) -> None:
        """Count a job."""
        self.jobs += 1
        self.submitted += not is_local
        self.core_hours += job.core_hours
        self.gpu_hours += job.gpu_hours
        self.longest = max(self.longest, job.seconds)
        self.memory = max(self.memory, job.memory)
        self.disk += job.disk


@dataclass
class Remaining:
    """All that is still to be done.

    Attributes:
        stages: by rule, in the order in which the dry run names them first.
        peak: bytes on disk at most, jobs one after the other.
        kept: bytes that are left behind.
    """

    stages: dict[str, Sums] = field(default_factory=dict)
    total: Sums = field(default_factory=Sums)
    peak: float = 0.0
    kept: float = 0.0


def plan_of(
    jobs: Iterable[Job], local: Collection[str] = (), temporary: Collection[str] = ()
) -> Remaining:
    """The sums.

    A job of a temporary rule leaves its files until the last job that reads one is done.

    Args:
        jobs: in an order in which they can run.
        local: rules whose jobs are not submitted.
        temporary: rules whose output is removed again.
    """
    jobs, found = list(jobs), Remaining()
    readers = Counter(path for job in jobs for path in job.inputs)
    removable: dict[str, float] = {}  # bytes of what is removed with its last reader, by path
    for job in jobs:
        for row in (found.stages.setdefault(job.rule, Sums()), found.total):
            row.add(job, job.rule in local)
        found.peak = max(found.peak, found.kept + job.disk)
        found.kept += job.disk - job.scratch
        if job.rule in temporary and job.outputs:
            removable[job.outputs[0]] = job.disk
        readers.subtract(job.inputs)
        for path in [path for path in removable if readers[path] <= 0]:
            found.kept -= removable.pop(path)
    return found


def text(plan: Remaining, notes: Iterable[str] = ()) -> str:
    """The plan as people read it: a table, and sentences below it."""
    if not plan.total.jobs:
        return "Nothing is left to be done."
    rows = [_cells(name, row) for name, row in plan.stages.items()]
    table = [HEADER, *rows, _cells("in all", plan.total)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in table)
    ]
    said = [
        f"About {shown(round(plan.peak))} of disk at once, {shown(round(plan.kept))} in the end, "
        "jobs one after the other.",
        "Hours are those of the cores and GPUs that jobs hold, on the machine of "
        "docs/measurements/scale.md.",
        *notes,
    ]
    return "\n".join([*lines, "", *said])


def _cells(name: str, row: Sums) -> tuple[str, ...]:
    return (
        name,
        str(row.jobs),
        str(row.submitted),
        f"{row.core_hours:.2f}",
        f"{row.gpu_hours:.2f}",
        _clock(row.longest),
        shown(round(row.memory)),
        shown(round(row.disk)),
    )


def _clock(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes // 60}:{minutes % 60:02} h" if minutes >= 60 else f"{minutes} min"
