"""Models: what is in them, and which they are."""


def model_content(
    wildcards,
):
    """The model by content: touching it makes nothing stale, changing it does."""
    return {
        "code": code("model.py"),
        "sha256": [CONTENT.of(path) for path in shards(Path(model_path(wildcards)))],
    }


def model_cost(
    wildcards,
    gpu=0,
):
    """Hashing takes as long as reading."""
    return stages.hashing(shape_of(wildcards.model), model_size(wildcards))


rule model:
    """Describe a model: architecture, tensors, hashes. All else depends on this small file."""
    input:
        script=ancient(script_path("model.py")),
        model=ancient(model_path),
    output:
        info="results/{model}/model.json",
    log:
        "results/logs/{model}/model.log",
    benchmark:
        "results/benchmarks/{model}/model.tsv"
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        mem_mb=memory(model_cost),
        runtime=minutes(model_cost),
        seconds=seconds(model_cost),
        disk_mb=disk(model_cost),
    params:
        settings=model_content,
    shell:
        "python {input.script:q}"
        " --model {input.model:q}"
        " --sha256 {params.settings[sha256]}"
        " --output {output.info:q}"
        " --log {log:q}"
