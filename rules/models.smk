"""Models: how they get here, what is in them, and which they are."""


wildcard_constraints:
    hub=one_of(HUB),


def fetched_address(
    wildcards,
):
    """Where the hub has a model."""
    return str(HUB[wildcards.hub])


checkpoint fetch_model:
    """Fetch a model from the hub, all its files, and check their hashes. It is never fetched again."""
    input:
        script=ancient(script_path("fetch_model.py")),
    output:
        model="results/hub/{hub}",
        facts="results/hub/{hub}.json",
    log:
        "results/logs/hub/{hub}.log",
    benchmark:
        "results/benchmarks/hub/{hub}.tsv"
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=600,
    params:
        address=fetched_address,
    shell:
        "python {input.script:q}"
        " --address {params.address:q}"
        " --output {output.model:q}"
        " --facts {output.facts:q}"
        " --log {log:q}"


def size_when_there(
    model,
):
    """Bytes of a model; one that is not fetched yet is waited for."""
    if hub.is_address(config["models"][model]):
        checkpoints.fetch_model.get(hub=hub.address(config["models"][model]).below(""))
    return size_of(MODEL_FILES[model])


def fetched_facts(
    wildcards,
):
    """What is known of a model that was fetched."""
    is_fetched = hub.is_address(config["models"][wildcards.model])
    return f"{MODEL_FILES[wildcards.model]}.json" if is_fetched else []


def model_content(
    wildcards,
):
    """The model by content: touching it makes nothing stale, changing it does."""
    path = Path(MODEL_FILES[wildcards.model])
    hashes = [] if fetched_facts(wildcards) else [CONTENT.of(shard) for shard in shards(path)]
    return {"code": code("model.py"), "sha256": hashes}


def model_hashes(
    wildcards,
    input,
):
    """The hashes of the model's files, or where they stand, as options of the command."""
    hashes = model_content(wildcards)["sha256"]
    return flags({"fetched": input.fetched} if input.fetched else {"sha256": hashes})


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
        fetched=fetched_facts,
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
        hashes=model_hashes,
    shell:
        "python {input.script:q}"
        " --model {input.model:q}"
        " {params.hashes}"
        " --output {output.info:q}"
        " --log {log:q}"


rule hashed:
    """Only hash users' models, in a job, before the workflow asks for it where it is read."""
    input:
        script=ancient(script_path("hashed.py")),
        models=[
            ancient(local(str(shard)))
            for path in config["models"].values()
            if not hub.is_address(path)
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


rule fetched_models:
    """Only the models that are fetched."""
    input:
        expand("results/hub/{hub}", hub=HUB),
