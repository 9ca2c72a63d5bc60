"""Comparison of each quantized model with its baseline."""

UNTIL = config["evaluation"]["until"]
BESIDE_MB = 1500  # what a model takes besides its weights: two contexts of a large vocabulary


def compared_file(
    model,
    recipe,
):
    """What a recipe made, or a candidate's file."""
    return CANDIDATES[model].get(recipe, f"results/{model}/quantize/{recipe}.gguf")


def compared_model(
    wildcards,
):
    """What a recipe made, or a candidate's file."""
    return compared_file(wildcards.model, wildcards.recipe)


def compared_beside(
    wildcards,
    resources,
):
    """What waits to be compared on the same evaluation, as much of it as the job's memory holds.

    The baseline's product is the same for all, so the job does their windows as well. That is asked
    when it starts, and changes no result. On a cluster, a job knows of those in its group. With
    GPUs, one model is in memory at a time.
    """
    waiting = {str(path) for job in workflow.dag.ready_jobs for path in job.output}
    if not waiting or resources.gpu:
        return []
    model, evaluation = wildcards.model, wildcards.evaluation
    room = 1e6 * resources.mem_mb - size_of(compared_model(wildcards))
    found = []
    for recipe in [*KNOWN, *CANDIDATES[model]]:
        output = f"results/{model}/compare/{recipe}/{evaluation}.h5"
        if output not in waiting:
            continue
        path, info = compared_file(model, recipe), f"results/{model}/quantize/{recipe}.json"
        room -= size_of(path) + 1e6 * BESIDE_MB
        if room > 0:
            found.append({"model": path, "info": info, "output": output})
    return found


def compare_options(
    wildcards,
    resources,
):
    """How long to compare, and what beside."""
    until = f"{UNTIL['figure']}={UNTIL['within']}" if UNTIL else None
    beside = compared_beside(wildcards, resources)
    return flags({"until": until, "beside": json.dumps(beside) if beside else None})


rule compare:
    """Measure how far a recipe strays from the baseline, per position, window and over all."""
    input:
        script=ancient(script_path("compare.py")),
        model=ancient(compared_model),
        info="results/{model}/quantize/{recipe}.json",
        baseline=ancient("results/{model}/baseline/{evaluation}.h5"),
        facts="results/{model}/baseline/{evaluation}.json",
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
        "../envs/quern.yaml"
    threads: 8
    resources:
        mem_mb=memory,
        runtime=minutes,
        gpu=0,
    params:
        settings={"code": code("compare.py"), "until": UNTIL},
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
