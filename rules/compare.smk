"""Comparison of each quantized model with its baseline."""

UNTIL = config["evaluation"]["until"]
# Memory of a comparison for models that are compared beside its own, and what each of them takes
# besides its weights: two contexts of a large vocabulary.
BESIDE_BYTES, CONTEXTS_BYTES = 4e9, 1.5e9


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
    """What waits to be compared on the same evaluation, as much of it as memory is asked for.

    The baseline's product is the same for all, so the job does their windows as well. That is asked
    when it starts, and changes no result. On a cluster, a job knows of those in its group. With
    GPUs, one model is in memory at a time.
    """
    waiting = {str(path) for job in workflow.dag.ready_jobs for path in job.output}
    if not waiting or resources.gpu:
        return []
    model, evaluation = wildcards.model, wildcards.evaluation
    room = BESIDE_BYTES
    found = []
    for recipe in [*KNOWN, *CANDIDATES[model]]:
        output = f"results/{model}/compare/{recipe}/{evaluation}.h5"
        if output not in waiting:
            continue
        path, info = compared_file(model, recipe), f"results/{model}/quantize/{recipe}.json"
        room -= size_of(path) + CONTEXTS_BYTES
        if room > 0:
            found.append({"model": path, "info": info, "output": output})
    return found


def compare_options(
    wildcards,
    resources,
):
    """With which cache and how long to compare, and what beside."""
    until = f"{UNTIL['figure']}={UNTIL['within']}" if UNTIL else None
    beside = compared_beside(wildcards, resources)
    own = {"until": until, "beside": json.dumps(beside) if beside else None}
    return flags(EVALUATIONS[wildcards.evaluation].cache | own)


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
    """A recipe or a candidate on an evaluation, with room for others beside it."""
    size = measured_bytes(wildcards.model, wildcards.recipe)
    own = comparison_cost(wildcards.model, size, wildcards.evaluation, gpu)
    return replace(own, memory=own.memory + (0 if gpu else BESIDE_BYTES))


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
