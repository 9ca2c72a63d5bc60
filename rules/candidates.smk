"""Candidates: quantized models that somebody else made. They stand where a recipe stands."""

MODELS = list(config["models"])


def candidates_of(
    section,
):
    """The path of each candidate by its model and its name."""
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
    CANDIDATES = candidates_of(config["candidates"])


wildcard_constraints:
    candidate=one_of(config["candidates"]),


def candidate_path(
    wildcards,
):
    """A candidate's file, as the user named it."""
    with sentences():
        of_model = CANDIDATES[wildcards.model]
        require(
            wildcards.candidate in of_model,
            ["candidates", wildcards.candidate],
            f"it is none of the model {wildcards.model}",
        )
    return of_model[wildcards.candidate]


def candidate_content(
    wildcards,
):
    """A candidate by content: touching it makes nothing stale, changing it does."""
    paths = shards(Path(candidate_path(wildcards)))
    return {"code": code("candidate.py"), "sha256": hashes_of_models(paths)}


def candidate_cost(
    wildcards,
    gpu=0,
):
    """Hashing takes as long as reading."""
    size = measured_bytes(wildcards.model, wildcards.candidate)
    return stages.hashing(size, shape_of(wildcards.model).vocab)


rule candidate:
    """Describe a candidate, and check that it is a quantization of its model."""
    input:
        script=ancient(script_path("candidate.py")),
        model=ancient(candidate_path),
        baseline=ancient(model_path),
        baseline_info="results/{model}/model.json",
    output:
        info="results/{model}/quantize/{candidate}.json",
    log:
        "results/logs/{model}/quantize/{candidate}.log",
    benchmark:
        "results/benchmarks/{model}/quantize/{candidate}.tsv"
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        mem_mb=memory(candidate_cost),
        runtime=minutes(candidate_cost),
        seconds=seconds(candidate_cost),
        disk_mb=disk(candidate_cost),
    params:
        settings=candidate_content,
    shell:
        "python {input.script:q}"
        " --name {wildcards.candidate:q}"
        " --model {input.model:q}"
        " --baseline-model {input.baseline:q}"
        " --baseline-info {input.baseline_info:q}"
        " --sha256 {params.settings[sha256]}"
        " --output {output.info:q}"
        " --log {log:q}"
