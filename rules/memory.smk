"""What each recipe takes of memory at the contexts of the report.

Needs: common, costs, models, foreign.
"""

from quern.cost import stages

MEMORY = {key: config["report"][key] for key in ("contexts", "kv")}


def memory_cost(wildcards, gpu=0):
    """A context made of a model's header."""
    return stages.header(shape_of(wildcards.model))


def memories_of(wildcards):
    """What all recipes and foreign models of a model take of memory."""
    model = wildcards.model
    return [f"results/{model}/memory/{name}.json" for name in names_of(model)]


rule memory:
    """A recipe's tensors, K/V cache and llama.cpp's buffers, in bytes; nothing is computed."""
    input:
        script=ancient(script_path("memory.py")),
        model=ancient(compared_model),
        info="results/{model}/quantize/{recipe}.json",
    output:
        "results/{model}/memory/{recipe}.json",
    log:
        "results/logs/{model}/memory/{recipe}.log",
    benchmark:
        "results/benchmarks/{model}/memory/{recipe}.tsv"
    conda:
        MODEL_ENVIRONMENT
    threads: 1
    resources:
        **asked(memory_cost),
        gpu=0,
    params:
        **decided("memory.py", MEMORY),
    shell:
        "python {input.script:q} --log {log:q}"
        " --model {input.model:q}"
        " --info {input.info:q}"
        " --name {wildcards.recipe:q}"
        " {params.options}"
        " --gpus {resources.gpu}"
        " --output {output:q}"


rule memories:
    """Only what the recipes and foreign models take of memory."""
    input:
        [
            f"results/{model}/memory/{name}.json"
            for model in config["models"]
            for name in names_of(model)
        ],
