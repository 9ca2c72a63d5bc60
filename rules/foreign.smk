"""Foreign models, the `candidates`: quantized by somebody else, they stand where a recipe stands."""

MODELS = list(config["models"])


def foreign_of(
    section,
):
    """The path of each foreign model by its model and its name."""
    found = {model: {} for model in MODELS}
    for name, entry in section.items():
        keys = ["candidates", name]
        entry = {"path": entry} if isinstance(entry, str) else entry
        require(
            name not in {**KNOWN, **PLAIN},
            keys,
            "a recipe of quantize has this name; choose another",
        )
        require(
            "model" in entry or len(MODELS) == 1,
            keys,
            f"say of which model it is, {{path: {entry['path']}, model: {MODELS[0]}}}",
        )
        model = entry.get("model", MODELS[0])
        require(model in MODELS, [*keys, "model"], configuration.unknown(model, MODELS))
        for shard in shards(Path(entry["path"])):
            require_file(keys, shard)
        found[model][name] = local(entry["path"])
    return found


with sentences():
    FOREIGN = foreign_of(config["candidates"])


wildcard_constraints:
    foreign=one_of(config["candidates"]),


def foreign_path(
    wildcards,
):
    """A foreign model's file, as the user named it."""
    with sentences():
        of_model = FOREIGN[wildcards.model]
        require(
            wildcards.foreign in of_model,
            ["candidates", wildcards.foreign],
            f"it is none of the model {wildcards.model}",
        )
    return of_model[wildcards.foreign]


def foreign_content(
    wildcards,
):
    """A foreign model by content: touching it makes nothing stale, changing it does."""
    paths = shards(Path(foreign_path(wildcards)))
    return {"code": code("foreign.py"), "sha256": hashes_of_models(paths)}


def foreign_cost(
    wildcards,
    gpu=0,
):
    """Hashing takes as long as reading."""
    size = measured_bytes(wildcards.model, wildcards.foreign)
    return stages.hashing(size, shape_of(wildcards.model).vocab)


rule foreign:
    """Describe a foreign model, and check that it is a quantization of its model."""
    input:
        script=ancient(script_path("foreign.py")),
        model=ancient(foreign_path),
        baseline=ancient(model_path),
        baseline_info="results/{model}/model.json",
    output:
        info="results/{model}/quantize/{foreign}.json",
    log:
        "results/logs/{model}/quantize/{foreign}.log",
    benchmark:
        "results/benchmarks/{model}/quantize/{foreign}.tsv"
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        mem_mb=memory(foreign_cost),
        runtime=minutes(foreign_cost),
        seconds=seconds(foreign_cost),
        disk_mb=disk(foreign_cost),
    params:
        settings=foreign_content,
    shell:
        "python {input.script:q}"
        " --name {wildcards.foreign:q}"
        " --model {input.model:q}"
        " --baseline-model {input.baseline:q}"
        " --baseline-info {input.baseline_info:q}"
        " --sha256 {params.settings[sha256]}"
        " --output {output.info:q}"
        " --log {log:q}"
