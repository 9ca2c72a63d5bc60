"""Quantized models, one a recipe."""

import shlex


def recipe_settings(wildcards):
    """A recipe and the code that carries it out."""
    return {"code": code("quantize.py")} | RECIPES[wildcards.recipe]


def recipe_imatrix(wildcards):
    """The imatrix of a recipe, if it has one."""
    corpus = RECIPES[wildcards.recipe]["imatrix"]
    return [f"results/{wildcards.model}/imatrix/{corpus}.gguf"] if corpus else []


def recipe_options(wildcards, input):
    """A recipe as options of the command."""
    recipe = RECIPES[wildcards.recipe]
    options = ["--type", recipe["type"]]
    options += ["--imatrix", *input.imatrix] if recipe["imatrix"] else []
    options += ["--pure"] if recipe.get("pure") else []
    for key in ("output_type", "token_embedding_type"):
        if key in recipe:
            options += [f"--{key.replace('_', '-')}", recipe[key]]
    for pattern, kind in recipe.get("tensor_types", {}).items():
        options += ["--tensor-type", f"{pattern}={kind}"]
    return shlex.join(options)


rule quantize:
    """Quantize a model by a recipe: type, imatrix, options."""
    input:
        model=ancient(model_path),
        info="results/{model}/model.json",
        imatrix=recipe_imatrix,
    output:
        model="results/{model}/quantize/{recipe}.gguf",
        info="results/{model}/quantize/{recipe}.json",
    log:
        "results/logs/{model}/quantize/{recipe}.log",
    benchmark:
        "results/benchmarks/{model}/quantize/{recipe}.tsv"
    conda:
        "../envs/quern.yaml"
    threads: 8
    resources:
        mem_mb=memory,
        runtime=minutes,
    params:
        settings=recipe_settings,
        options=recipe_options,
    shell:
        "python {SCRIPTS}/quantize.py"
        " --model {input.model:q}"
        " --info {input.info:q}"
        " {params.options}"
        " --threads {threads}"
        " --output {output.model:q}"
        " --output-info {output.info:q}"
        " --log {log:q}"
