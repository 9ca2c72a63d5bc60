"""The plan: jobs, submissions, hours and disk of what is configured, before anything runs.

Needs: common, costs, models, axes, imatrix, compare, grow.
"""

import sys
from itertools import takewhile

from quern.cost import stages
from snakemake.io import is_flagged


def dry_run(wildcards):
    """The command that was given, as a dry run of all that is configured, with its jobs as data."""
    own = [rule.name for rule in workflow.rules if rule.name.endswith("plan")]  # or a module's
    given = [word for word in sys.argv[1:] if word not in own]
    return [sys.executable, "-m", "snakemake", *given, "--dry-run", "--logger", "jobs"]


def local_rules(wildcards):
    """Rules whose jobs are never submitted."""
    return sorted(rule.name for rule in workflow.rules if workflow.is_local(rule))


def temporary_rules(wildcards):
    """Rules whose output is removed once it was used."""
    outputs = {rule.name: rule.output for rule in workflow.rules}
    return sorted(
        name for name, paths in outputs.items() if any(is_flagged(p, "temp") for p in paths)
    )


def whole_ladder(model, corpus):
    """How many steps there can be, and what they cost together."""
    pool = calibrated_windows(model, corpus)
    steps = list(takewhile(pool.count.__gt__, rungs()))
    shape = shape_of(model)
    cost = stages.imatrix_shard(shape, pool)
    for kind in JUDGES:
        size = stages.quantized_bytes(shape, kind)
        for _ in range(len(steps) + 1):
            cost += stages.quantize(shape, kind, size)
            cost += comparison_cost(model, size, JUDGE, gpu=0)
    return len(steps) + 1, cost


def plan_notes(wildcards):
    """What the plan cannot know, in sentences."""
    notes = []
    for model in config["models"] if GROWTH and not GROWTH["eager"] else []:
        for corpus in GROWN:
            steps, cost = whole_ladder(model, corpus)
            notes.append(
                f"The imatrix of {corpus} for {model} is counted to its next step, since what that "
                f"finds decides how many follow: at most {steps}, together "
                f"{cost.core_seconds / 3600:.2f} core hours on CPUs."
            )
    return notes


rule plan:
    """Say what is still to be done and what it costs; nothing is computed."""
    input:
        script=ancient(script_path("plan.py")),
    log:
        "results/logs/plan.log",
    localrule: True
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        **LIGHT,
    params:
        plugins=str(HOUSE / "plugins"),
        dry_run=dry_run,
        local=local_rules,
        temporary=temporary_rules,
        notes=plan_notes,
    shell:
        "PYTHONPATH={params.plugins:q} {params.dry_run:q} 2> {log:q}"
        " | python {input.script:q}"
        " --local {params.local:q}"
        " --temporary {params.temporary:q}"
        " --notes {params.notes:q}"
        " --log {log:q}"
