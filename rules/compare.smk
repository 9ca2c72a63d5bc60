"""Comparison of each quantized model with its baseline."""

UNTIL = config["evaluation"]["until"]


def compared_model(
    wildcards,
):
    """What a recipe made, or a foreign model."""
    model, recipe = wildcards.model, wildcards.recipe
    return FOREIGN[model].get(recipe, f"results/{model}/quantize/{recipe}.gguf")


def compare_options(
    wildcards,
):
    """With which cache and how long to compare."""
    until = UNTIL and "{figure}={within}".format(**UNTIL)
    return flags(EVALUATIONS[wildcards.evaluation].cache | {"until": until})


def compare_settings(
    wildcards,
):
    """What a comparison depends on besides its inputs."""
    found = {"code": code("compare.py"), "until": UNTIL}
    return found | EVALUATIONS[wildcards.evaluation].cache


def comparison_cost(
    model,
    size,
    evaluation,
    gpu,
):
    """A quantized model of so many bytes over the windows of an evaluation."""
    windows, store = evaluated_windows(model, evaluation), EVALUATIONS[evaluation].store
    return stages.compare(shape_of(model), size, windows, store, gpu)


def compare_cost(
    wildcards,
    gpu=0,
):
    """A recipe or a foreign model on an evaluation."""
    size = measured_bytes(wildcards.model, wildcards.recipe)
    return comparison_cost(wildcards.model, size, wildcards.evaluation, gpu)


rule compare:
    """Measure how far a recipe strays from the baseline, per position, window and over all."""
    input:
        script=ancient(script_path("compare.py")),
        model=ancient(compared_model),
        info="results/{model}/quantize/{recipe}.json",
        baseline=ancient(baseline_of),
        facts=baseline_facts,
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
        mem_mb=memory(compare_cost),
        runtime=minutes(compare_cost),
        seconds=seconds(compare_cost),
        disk_mb=disk(compare_cost),
        gpu=0,
    params:
        settings=compare_settings,
        options=compare_options,
    shell:
        "python {input.script:q}"
        " --model {input.model:q}"
        " --info {input.info:q}"
        " --baseline {input.baseline:q}"
        " --baseline-model {input.baseline_model:q}"
        " --baseline-info {input.baseline_info:q}"
        " {params.options}"
        " --threads {threads}"
        " --gpus {resources.gpu}"
        " --tuning results/{wildcards.model}/tuning"
        " --output {output.positions:q}"
        " --windows {output.windows:q}"
        " --summary {output.summary:q}"
        " --text {output.text:q}"
        " --log {log:q}"
