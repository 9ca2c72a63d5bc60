"""Models: what is in them, and which they are."""


def model_content(
    wildcards,
):
    """The model by content: touching it makes nothing stale, changing it does."""
    return {
        "code": code("model.py"),
        "sha256": [CONTENT.of(path) for path in shards(Path(model_path(wildcards)))],
    }


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
        mem_mb=2000,
        runtime=60,
    params:
        settings=model_content,
    shell:
        "python {input.script:q}"
        " --model {input.model:q}"
        " --sha256 {params.settings[sha256]}"
        " --output {output.info:q}"
        " --log {log:q}"


rule hashed:
    """Only hash the models, in a job, before the workflow asks for it where it is read."""
    input:
        script=ancient(script_path("hashed.py")),
        models=[
            ancient(local(str(shard)))
            for path in config["models"].values()
            for shard in shards(Path(path))
        ],
    log:
        "results/logs/hashed.log",
    benchmark:
        "results/benchmarks/hashed.tsv"
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=240,
    params:
        cache=HASHES,
    shell:
        "python {input.script:q}"
        " --files {input.models:q}"
        " --cache {params.cache:q}"
        " --log {log:q}"
