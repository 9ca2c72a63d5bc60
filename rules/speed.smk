"""How fast a model's recipes are, all timed by one job, round by round."""

SPEED = config["speed"] or {}
if SPEED:
    READ += expand("results/{model}/speed.json", model=config["models"])


def all_cores(
    wildcards,
):
    """All cores of this machine's run, so that nothing runs beside; on a cluster a job's usual 8."""
    return workflow.resource_settings.cores or 8


def timed_models(
    wildcards,
    input,
):
    """What is timed, as the command takes it."""
    files = zip(RECIPES, input.models, input.info, strict=True)
    return json.dumps([{"name": name, "model": model, "info": info} for name, model, info in files])


rule speed:
    """Time prompts and generated tokens of all recipes. An interrupted run goes on."""
    input:
        script=ancient(script_path("speed.py")),
        models=ancient(expand("results/{{model}}/quantize/{recipe}.gguf", recipe=RECIPES)),
        info=expand("results/{{model}}/quantize/{recipe}.json", recipe=RECIPES),
    output:
        "results/{model}/speed.json",
    log:
        "results/logs/{model}/speed.log",
    benchmark:
        "results/benchmarks/{model}/speed.tsv"
    conda:
        "../envs/quern.yaml"
    threads: all_cores
    resources:
        mem_mb=memory,
        runtime=minutes,
        gpu=0,
    params:
        settings={"code": code("speed.py"), "recipes": list(RECIPES)} | SPEED,
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
