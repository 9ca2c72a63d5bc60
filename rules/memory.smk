"""What each recipe takes of memory at the contexts of the report."""

MEMORY = {key: config["report"][key] for key in ("contexts", "kv")}


def memory_cost(
    wildcards,
    gpu=0,
):
    """A context made of a model's header."""
    return stages.header(shape_of(wildcards.model))


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
        mem_mb=memory(memory_cost),
        runtime=minutes(memory_cost),
        seconds=seconds(memory_cost),
        disk_mb=disk(memory_cost),
        gpu=0,
    params:
        settings={"code": code("memory.py")} | MEMORY,
        options=flags(MEMORY),
    shell:
        "python {input.script:q}"
        " --model {input.model:q}"
        " --info {input.info:q}"
        " --name {wildcards.recipe:q}"
        " {params.options}"
        " --gpus {resources.gpu}"
        " --output {output:q}"
        " --log {log:q}"


rule memories:
    """Only what the recipes and foreign models take of memory."""
    input:
        [
            f"results/{model}/memory/{name}.json"
            for model in config["models"]
            for name in [*RECIPES, *FOREIGN[model]]
        ],
