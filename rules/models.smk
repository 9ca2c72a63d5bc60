"""Models: where they are from, what is in them, and which they are.

Needs: common, costs.
"""

import json
import os
from pathlib import Path

from quern.cost import stages
from quern.cost.shape import Shapes
from quern.files import shards
from quern.models import hub, safetensors
from snakemake.settings.types import DeploymentMethod

MODEL_FILES = {}  # the GGUF of each model, once it is there
ON_HUB = {}  # addresses by model
FOLDERS = {}  # of safetensors, by model
HUB = "results/hub"
CONVERTER = ".converter"
SHAPES = Shapes(Path("results/.shapes.json"))

with sentences():
    for name, path in config["models"].items():
        keys = ["models", name]
        if hub.is_address(path):
            ON_HUB[name] = require.reads(keys, hub.address, path)
            if not ON_HUB[name].file:
                FOLDERS[name] = f"{HUB}/{ON_HUB[name].place}"
            MODEL_FILES[name] = f"results/{name}/{os.path.basename(ON_HUB[name].file)}"
        elif os.path.isdir(path):
            require.name(keys, path)
            require.reads(keys, safetensors.files_in, path)
            FOLDERS[name] = path
        else:
            MODEL_FILES[name] = local(path)
            for shard in shards(Path(path)):
                require.file(keys, shard)
MODEL_FILES |= {name: f"results/{name}/model.gguf" for name in FOLDERS}
PLACES = {address.place: address for address in ON_HUB.values()}
PLACED = {name: MODEL_FILES[name] for name in ON_HUB if name not in FOLDERS}
IN_CONDA = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method


wildcard_constraints:
    place=one_of(PLACES),
    placed=one_of(PLACED),
    converted=one_of(FOLDERS),
    gguf=one_of({os.path.basename(path) for path in PLACED.values()}),


def model_path(wildcards):
    """The model's file: as the user named it, or as it will be once it is fetched or converted."""
    return MODEL_FILES[wildcards.model]


def size_of(path):
    """Bytes of a model on disk, all shards; 0 where it is missing."""
    return sum(p.stat().st_size for p in shards(Path(path)) if p.is_file())


def shape_of(model):
    """The shape of an unquantized model."""
    return SHAPES.of(MODEL_FILES[model])


def hub_address(wildcards):
    """Where the hub has a model."""
    return str(PLACES[wildcards.place])


rule fetch_model:
    """Fetch a model from the hub and check its hashes; what is there is never fetched again."""
    input:
        script=ancient(script_path("fetch_model.py")),
    output:
        facts=f"{HUB}/{{place}}.fetched.json",
    log:
        "results/logs/hub/{place}.log",
    benchmark:
        "results/benchmarks/hub/{place}.tsv"
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=600,
    params:
        address=hub_address,
        place=f"{HUB}/{{place}}",
    shell:
        "python {input.script:q} --log {log:q}"
        " --address {params.address:q}"
        " --place {params.place:q}"
        " --facts {output.facts:q}"


def hub_facts(model):
    """What is known of a model that was fetched; its files lie beside it."""
    return f"{HUB}/{ON_HUB[model].place}.fetched.json"


def placed_facts(wildcards):
    """The facts of a GGUF from the hub."""
    return hub_facts(wildcards.placed)


def hub_file(wildcards):
    """Where a GGUF from the hub lies."""
    return f"{HUB}/{ON_HUB[wildcards.placed].place}"


checkpoint place_model:
    """Link a model that was fetched to its place among the results."""
    input:
        script=ancient(script_path("place_model.py")),
        facts=placed_facts,
    output:
        model="results/{placed}/{gguf}",
    log:
        "results/logs/{placed}/place/{gguf}.log",
    benchmark:
        "results/benchmarks/{placed}/place/{gguf}.tsv"
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        model=hub_file,
    shell:
        "python {input.script:q} --log {log:q}"
        " --model {params.model:q}"
        " --facts {input.facts:q}"
        " --output {output.model:q}"


def converter_content(wildcards):
    """What the converter's environment is made of."""
    paths = ("requirements-convert.txt", "envs/converter.sh", "envs/convert.post-deploy.sh")
    return {path: CONTENT.of(HOUSE / path) for path in paths}


rule converter:
    """Make the environment of llama.cpp's converter, with PyTorch, where conda does not."""
    input:
        script=ancient(local(os.path.relpath(HOUSE / "envs/converter.sh"))),
    output:
        local(f"{CONVERTER}/installed"),
    log:
        "results/logs/converter.log",
    benchmark:
        "results/benchmarks/converter.tsv"
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        settings=converter_content,
    shell:
        'bash {input.script:q} "$(dirname {output:q})" >{log:q} 2>&1 && touch {output:q}'


def folder_facts(wildcards):
    """What is known of safetensors that were fetched."""
    return hub_facts(wildcards.converted) if wildcards.converted in ON_HUB else []


def folder_files(wildcards):
    """The files of a user's folder of safetensors."""
    folder = FOLDERS[wildcards.converted]
    is_own = wildcards.converted not in ON_HUB
    names = safetensors.files_in(folder) if is_own else []
    return [local(os.path.join(folder, name)) for name in names]


def folder_path(wildcards):
    """A folder of safetensors."""
    return FOLDERS[wildcards.converted]


def folder_hashes(wildcards):
    """A user's safetensors by content; of those that were fetched the facts say it."""
    return {os.path.basename(path): CONTENT.of(path) for path in folder_files(wildcards)}


def conversion_cost(wildcards, gpu=0):
    """By the bytes of the safetensors; what is not fetched yet counts as an 8B."""
    weights = Path(FOLDERS[wildcards.converted]).glob("*.safetensors")
    return stages.conversion(sum(path.stat().st_size for path in weights) or 16e9)


checkpoint convert:
    """Convert safetensors to GGUF with llama.cpp's converter, in its own environment."""
    input:
        script=ancient(script_path("convert.py")),
        converter=[] if IN_CONDA else ancient(rules.converter.output[0]),
        facts=folder_facts,
        files=ancient(folder_files),
    output:
        model="results/{converted}/model.gguf",
        facts="results/{converted}/model.gguf.json",
    log:
        "results/logs/{converted}/convert.log",
    benchmark:
        "results/benchmarks/{converted}/convert.tsv"
    conda:
        "../envs/convert.yaml"
    threads: 1
    resources:
        **asked(conversion_cost),
    params:
        **decided("convert.py", converter=converter_content, sha256=folder_hashes),
        python="python" if IN_CONDA else f"{CONVERTER}/bin/python",
        folder=folder_path,
    shell:
        "{params.python:q} {input.script:q}"
        " --folder {params.folder:q}"
        " --output {output.model:q}"
        " --facts {output.facts:q}"
        " --log {log:q}"


def size_when_there(model):
    """Bytes of a model; one that is not there yet is waited for."""
    if model in FOLDERS:
        checkpoints.convert.get(converted=model)
    elif model in PLACED:
        checkpoints.place_model.get(placed=model, gguf=os.path.basename(PLACED[model]))
    return size_of(MODEL_FILES[model])


def fetched_facts(wildcards):
    """The hashes of a model that was fetched or converted."""
    if wildcards.model in FOLDERS:
        return f"{MODEL_FILES[wildcards.model]}.json"
    return hub_facts(wildcards.model) if wildcards.model in PLACED else []


def model_content(wildcards):
    """A user's model by content: touching it makes nothing stale, changing it does."""
    return hashes_of_models([] if fetched_facts(wildcards) else shards(Path(model_path(wildcards))))


def model_hashes(wildcards, input):
    """The hashes of a model's files; of one that was fetched or converted, as its facts say.

    Snakemake waits for facts that are not there yet, since it knows what `open` raises.
    """
    if not input.facts:
        return model_content(wildcards)
    with open(str(input.facts), encoding="utf-8") as facts:
        return hub.hashes(json.load(facts))


def model_cost(wildcards, gpu=0):
    """Hashing takes as long as reading."""
    return stages.hashing(size_of(model_path(wildcards)), shape_of(wildcards.model).vocab)


rule model:
    """Describe a model: architecture, tensors, hashes. All else depends on this small file."""
    input:
        script=ancient(script_path("model.py")),
        model=ancient(model_path),
        facts=fetched_facts,
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
        **asked(model_cost),
    params:
        **decided("model.py", sha256=model_content),
        hashes=model_hashes,
    shell:
        "python {input.script:q} --log {log:q}"
        " --model {input.model:q}"
        " --sha256 {params.hashes}"
        " --output {output.info:q}"


rule models:
    """Only the models that are fetched or converted, on a machine with a network."""
    input:
        [MODEL_FILES[name] for name in {**PLACED, **FOLDERS}],
