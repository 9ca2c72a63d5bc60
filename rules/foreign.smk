"""Foreign models, the `candidates`: quantized by somebody else, they stand where a recipe stands.

Needs: common, costs, models, quantize.
"""

import os
from pathlib import Path

from quern.cost import stages
from quern.files import shards

MODELS = list(config["models"])


def foreign_of(section):
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
        require.known([*keys, "model"], model, MODELS)
        for shard in shards(Path(entry["path"])):
            require.file(keys, shard)
        found[model][name] = local(entry["path"])
    return found


with sentences():
    FOREIGN = foreign_of(config["candidates"])


wildcard_constraints:
    foreign=one_of(config["candidates"]),


def foreign_path(wildcards):
    """A foreign model's file, as the user named it."""
    with sentences():
        of_model = FOREIGN[wildcards.model]
        require(
            wildcards.foreign in of_model,
            ["candidates", wildcards.foreign],
            f"it is none of the model {wildcards.model}",
        )
    return of_model[wildcards.foreign]


def foreign_content(wildcards):
    """A foreign model by content: touching it makes nothing stale, changing it does."""
    return hashes_of_models(shards(Path(foreign_path(wildcards))))


def measured_bytes(model, name):
    """Bytes of a recipe's or a foreign model's file, or of the model itself."""
    if name in FOREIGN[model]:
        return size_of(FOREIGN[model][name])
    recipe = KNOWN.get(name) or PLAIN.get(name)
    return recipe_bytes(model, recipe) if recipe else shape_of(model).bytes


def compared_file(model, name):
    """What a recipe made, or a foreign model."""
    return FOREIGN[model].get(name, f"results/{model}/quantize/{name}.gguf")


def compared_model(wildcards):
    """What a recipe made, or a foreign model."""
    return compared_file(wildcards.model, wildcards.recipe)


def names_of(model):
    """All recipes and foreign models of a model, in the order of the tables."""
    return [*RECIPES, *FOREIGN[model]]


def listed(wildcards):
    """What the tables say of all recipes and foreign models of a model."""
    own = [labels(recipe) for recipe in RECIPES.values()]
    untold = {"imatrix": "unknown", "rounding": "unknown"}  # nobody told us how they were quantized
    return own + [
        {"name": name, "type": name, **untold, "plain": name, "foreign": True}
        for name in FOREIGN[wildcards.model]
    ]


def foreign_infos(wildcards):
    """What is known of a model's foreign models."""
    return [f"results/{wildcards.model}/quantize/{name}.json" for name in FOREIGN[wildcards.model]]


def foreign_cost(wildcards, gpu=0):
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
        **asked(foreign_cost),
    params:
        **decided("foreign.py", sha256=foreign_content),
    shell:
        "python {input.script:q} --log {log:q}"
        " --name {wildcards.foreign:q}"
        " --model {input.model:q}"
        " --baseline-model {input.baseline:q}"
        " --baseline-info {input.baseline_info:q}"
        " --sha256 {params.settings[sha256]}"
        " --output {output.info:q}"


def users_models(wildcards):
    """Models, also foreign ones, that are users' files, in all their parts."""
    own = [path for name, path in MODEL_FILES.items() if name not in {**ON_HUB, **FOLDERS}]
    foreign = [path for of_model in FOREIGN.values() for path in of_model.values()]
    parts = [part for path in [*own, *foreign] for part in shards(Path(path))]
    return [local(str(part)) for part in dict.fromkeys(parts)]


def hashed_cost(wildcards, gpu=0):
    """All of them read."""
    return stages.hashing(sum(os.path.getsize(path) for path in users_models(wildcards)))


rule hashed:
    """Only hash users' models, in a job, before the workflow asks for it where it is read."""
    input:
        script=ancient(script_path("hashed.py")),
        models=ancient(users_models),
    log:
        "results/logs/hashed.log",
    benchmark:
        "results/benchmarks/hashed.tsv"
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        **asked(hashed_cost),
    params:
        cache=HASHES,
    shell:
        "python {input.script:q} --log {log:q}"
        " --files {input.models:q}"
        " --cache {params.cache:q}"
