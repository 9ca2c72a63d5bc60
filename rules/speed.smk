"""How fast a model's recipes are, all timed by one job, round by round."""

SPEED = config["speed"] or {}
if SPEED:
    READ += expand("results/{model}/speed.json", model=config["models"])


def all_cores(
    wildcards,
):
    """All cores of a run, so that nothing runs beside; on a cluster those of a node, or 8."""
    return workflow.resource_settings.cores or 8


def timed_names(
    model,
):
    """The recipes and foreign models of a model."""
    return [*RECIPES, *FOREIGN[model]]


def timed_files(
    wildcards,
):
    """Their files."""
    own = {name: f"results/{wildcards.model}/quantize/{name}.gguf" for name in RECIPES}
    return list((own | FOREIGN[wildcards.model]).values())


def timed_infos(
    wildcards,
):
    """What is known of them."""
    names = timed_names(wildcards.model)
    return [f"results/{wildcards.model}/quantize/{name}.json" for name in names]


def timed_models(
    wildcards,
    input,
):
    """What is timed, as the command takes it."""
    files = zip(timed_names(wildcards.model), input.models, input.info, strict=True)
    return json.dumps([{"name": name, "model": model, "info": info} for name, model, info in files])


def speed_settings(
    wildcards,
):
    """What the speeds depend on besides the files."""
    return {"code": code("speed.py"), "recipes": timed_names(wildcards.model)} | SPEED


def speed_cost(
    wildcards,
    gpu=0,
):
    """All recipes and foreign models of a model, round by round."""
    sizes = [measured_bytes(wildcards.model, name) for name in timed_names(wildcards.model)]
    return stages.speed(shape_of(wildcards.model), sizes, **SPEED, gpu=gpu)


rule speed:
    """Time prompts and generated tokens of all recipes. An interrupted run goes on."""
    input:
        script=ancient(script_path("speed.py")),
        models=ancient(timed_files),
        info=timed_infos,
    output:
        "results/{model}/speed.json",
    log:
        "results/logs/{model}/speed.log",
    benchmark:
        "results/benchmarks/{model}/speed.tsv"
    conda:
        MODEL_ENVIRONMENT
    threads: all_cores
    resources:
        mem_mb=memory(speed_cost),
        runtime=minutes(speed_cost),
        seconds=seconds(speed_cost),
        disk_mb=disk(speed_cost),
        gpu=0,
    params:
        settings=speed_settings,
        models=timed_models,
        options=flags(SPEED),
    shell:
        "python {input.script:q}"
        " --models {params.models:q}"
        " {params.options}"
        " --threads {threads}"
        " --gpus {resources.gpu}"
        " --output {output:q}"
        " --log {log:q}"
