"""Comparison of each quantized model with its baseline.

Needs: common, costs, models, axes, baseline, foreign.
"""

from quern.cost import stages

UNTIL = config["evaluation"]["until"]


def compare_options(wildcards):
    """With which cache of keys and values, and how long to compare."""
    until = "{figure}={within}".format(**UNTIL) if UNTIL else None
    return EVALUATIONS[wildcards.evaluation].cache | {"until": until}


def comparison_cost(model, size, evaluation, gpu):
    """A quantized model of so many bytes over the windows of an evaluation."""
    windows, store = evaluated_windows(model, evaluation), EVALUATIONS[evaluation].store
    return stages.compare(shape_of(model), size, windows, store, gpu)


def compare_cost(wildcards, gpu=0):
    """A recipe or a foreign model on an evaluation."""
    size = measured_bytes(wildcards.model, wildcards.recipe)
    return comparison_cost(wildcards.model, size, wildcards.evaluation, gpu)


rule compare:
    """Measure how far a recipe strays from the baseline, per position, window and over all."""
    input:
        unpack(baseline_of),
        script=ancient(script_path("compare.py")),
        model=ancient(compared_model),
        info="results/{model}/quantize/{recipe}.json",
        baseline_model=ancient(model_path),
        baseline_info="results/{model}/model.json",
    output:
        positions="results/{model}/compare/{recipe}/{evaluation}.h5",
        windows="results/{model}/compare/{recipe}/{evaluation}.csv",
        summary="results/{model}/compare/{recipe}/{evaluation}.json",
        text="results/{model}/compare/{recipe}/{evaluation}.txt",
    log:
        "results/logs/{model}/compare/{recipe}/{evaluation}.log",
    benchmark:
        "results/benchmarks/{model}/compare/{recipe}/{evaluation}.tsv"
    conda:
        MODEL_ENVIRONMENT
    threads: 8
    resources:
        **asked(compare_cost),
        gpu=0,
    params:
        **decided("compare.py", compare_options),
    shell:
        "python {input.script:q} --log {log:q}"
        " --model {input.model:q}"
        " --info {input.info:q}"
        " --baseline {input.baseline:q}"
        " --baseline-model {input.baseline_model:q}"
        " --baseline-info {input.baseline_info:q}"
        " {params.options}"
        " --threads {threads} --gpus {resources.gpu}"
        " --tuning results/{wildcards.model}/tuning"
        " --output {output.positions:q}"
        " --windows {output.windows:q}"
        " --summary {output.summary:q}"
        " --text {output.text:q}"
