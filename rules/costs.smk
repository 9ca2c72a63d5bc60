"""What jobs ask for: time, memory and disk, by the formulas of `scripts/quern/cost`.

Each stage has a function of its own that gives the cost of a job, from its wildcards and the number
of its GPUs; `asked` makes a job's resources of it.

Needs: nothing.
"""

import math

LIGHT = {"mem_mb": 2000, "runtime": 10}  # of a table or a picture
TABLE = {"mem_mb": 4000, "runtime": 30}  # of one with intervals


def all_cores(wildcards):
    """All cores of a run, so that nothing runs beside; on a cluster those of a node, or 8."""
    return workflow.resource_settings.cores or 8


def gpus_of(rulename):
    """GPUs that a rule's jobs have, as the profile or `--set-resources` says."""
    found = workflow.get_rule(rulename).resources.get("gpu")
    return found.value or 0 if found and not found.is_evaluable() else 0


def asked(cost):
    """Resources of a job by a function of its cost; more memory and time where it is tried again.

    `seconds` is what it is expected to take, `scratch_mb` what of its disk is free again after it;
    nothing but the plan looks at them.
    """

    def memory(wildcards, attempt, rulename):
        return cost(wildcards, gpus_of(rulename)).megabytes_asked(attempt)

    def minutes(wildcards, threads, attempt, rulename):
        return cost(wildcards, gpus_of(rulename)).minutes_asked(threads, attempt)

    def seconds(wildcards, threads, rulename):
        return math.ceil(cost(wildcards, gpus_of(rulename)).seconds(threads))

    def disk(wildcards):
        found = cost(wildcards)
        return math.ceil((found.disk + found.scratch) / 1e6)

    def scratch(wildcards):
        return math.ceil(cost(wildcards).scratch / 1e6)

    return {
        "mem_mb": memory,
        "runtime": minutes,
        "seconds": seconds,
        "disk_mb": disk,
        "scratch_mb": scratch,
    }
