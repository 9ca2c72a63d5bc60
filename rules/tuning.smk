"""The fastest way to decode windows on this machine, found once; stages take it up where it lies.

It is no input of theirs: no digit of a result depends on it, so it makes nothing stale.

Needs: common, costs, models, corpora.
"""

from quern.cost import stages

TUNING = {key: config["tuning"][key] for key in ("windows", "repeats")}
STAGE_THREADS = 8  # of the jobs that decode windows
TUNED = config["tuning"]["n_ctx"] or sorted(
    {config["evaluation"]["n_ctx"], config["imatrix"]["n_ctx"]}
)


wildcard_constraints:
    n_ctx=r"\d+",


def tuned_text(wildcards):
    """The text whose windows are decoded."""
    return with_facts(wildcards.model, f"{config['evaluation']['corpora'][0]}.evaluation")


def tuned_threads(wildcards):
    """As many as the stages' jobs get, though nothing else runs beside."""
    return min(STAGE_THREADS, all_cores(wildcards))


def tune_cost(wildcards, gpu=0):
    """All ways to decode windows, round by round."""
    return stages.tune(shape_of(wildcards.model), int(wildcards.n_ctx), **TUNING, gpu=gpu)


rule tune:
    """Time ways to decode windows in turns. An interrupted run goes on."""
    input:
        unpack(tuned_text),
        script=ancient(script_path("tune.py")),
        model=ancient(model_path),
        info="results/{model}/model.json",
    output:
        result="results/{model}/tuning/{n_ctx}.json",
        trials="results/{model}/tuning/{n_ctx}.csv",
    log:
        "results/logs/{model}/tuning/{n_ctx}.log",
    benchmark:
        "results/benchmarks/{model}/tuning/{n_ctx}.tsv"
    conda:
        MODEL_ENVIRONMENT
    threads: all_cores
    resources:
        **asked(tune_cost),
        gpu=0,
    params:
        **decided("tune.py", TUNING),
        threads=tuned_threads,
    shell:
        "python {input.script:q} --log {log:q}"
        " --model {input.model:q}"
        " --info {input.info:q}"
        " --tokens {input.tokens:q}"
        " --n-ctx {wildcards.n_ctx}"
        " {params.options}"
        " --threads {params.threads}"
        " --gpus {resources.gpu}"
        " --output {output.result:q}"
        " --trials {output.trials:q}"


rule tuning:
    """Only the tuning, which is made by this name alone."""
    input:
        for_models("results/{model}/tuning/{n_ctx}.json", n_ctx=TUNED),
