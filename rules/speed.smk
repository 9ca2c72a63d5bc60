"""How fast a model's recipes are, all timed by one job, round by round.

Needs: common, costs, models, foreign.
"""

from quern.cost import stages

SPEED = config["speed"] or {}
if SPEED:
    READ += for_models("results/{model}/speed.json")


def speed_file(wildcards):
    """The speeds of a model's recipes, where the configuration asks for them."""
    return [f"results/{wildcards.model}/speed.json"] if SPEED else []


def timed_files(wildcards):
    """All recipes and foreign models of a model, and what is known of them."""
    model, names = wildcards.model, names_of(wildcards.model)
    info = [f"results/{model}/quantize/{name}.json" for name in names]
    return {"model": [ancient(compared_file(model, name)) for name in names], "info": info}


def timed_rows(wildcards):
    """What is timed, by name."""
    return [{"name": name} for name in names_of(wildcards.model)]


def speed_cost(wildcards, gpu=0):
    """All recipes and foreign models of a model, round by round."""
    sizes = [measured_bytes(wildcards.model, name) for name in names_of(wildcards.model)]
    return stages.speed(shape_of(wildcards.model), sizes, **SPEED, gpu=gpu)


rule speed:
    """Time prompts and generated tokens of all recipes. An interrupted run goes on."""
    input:
        unpack(timed_files),
        script=ancient(script_path("speed.py")),
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
        **asked(speed_cost),
        gpu=0,
    params:
        **decided("speed.py", SPEED, models=timed_rows),
        models=rows(timed_rows, "model", "info"),
    shell:
        "python {input.script:q} --log {log:q}"
        " --models @/dev/fd/3"
        " {params.options}"
        " --threads {threads} --gpus {resources.gpu}"
        " --output {output:q}"
        " 3<<< {params.models:q}"
