"""Quantized models, one a recipe.

Needs: common, costs, models, axes, moments.
"""

from pathlib import Path

from quern.cost import stages
from quern.cost.shape import columns_of
from quern.files import shards
from quern.quantize.recipes import BY_LLAMA, BY_ROUNDING, Recipe, carried_out_by_llama, recipes_of
from quern.sizes import Size

with sentences():
    RECIPES = recipes_of(config)
    IMATRIX_FILES = {
        name: {"path": entry} if isinstance(entry, str) else entry
        for name, entry in config["imatrix"]["files"].items()
    }
    for name, entry in IMATRIX_FILES.items():
        is_corpus = name in config["corpora"]
        require(not is_corpus, ["imatrix", "files", name], "a corpus has this name; choose another")
        require.file(["imatrix", "files", name], entry["path"])
    for i, sweep in enumerate(config["quantize"]):
        likes = sweep.get("like", [])
        for path in [likes] if isinstance(likes, str) else likes:
            for shard in shards(Path(path)):
                require.file(["quantize", i, "like"], shard)
    # What no model that is there can have; a job reads what the run that sent it has read.
    for i, sweep in enumerate(config["quantize"] if workflow.is_main_process else ()):
        for recipe in Recipe.of_sweep(sweep) if (sweep.get("mix") or {}).get("fixed") else ():
            found = [columns_of(Path(path)) for path in MODEL_FILES.values()]
            said = [recipe.cannot_fix(columns) for columns in found if columns]
            require("" in said or not said, ["quantize", i, "mix", "fixed"], "; ".join(said))
# Those of the configuration, which tables list, and those of studies.
KNOWN = dict(RECIPES)
with sentences():
    for study, plan in PLANS.items():
        for name, recipe in plan.recipes.items():
            said = f"another recipe {name} has other options; give its entry another variant"
            require(KNOWN.setdefault(name, recipe) == recipe, ["studies", study], said)
if any(recipe.needs_moments for recipe in KNOWN.values()):
    for name, path in MODEL_FILES.items():
        moments_parts(name, size_of(path))  # of one that is not there yet, later
PLAIN = carried_out_by_llama(KNOWN)
ROUNDED = {name: recipe for name, recipe in KNOWN.items() if recipe.is_rounded}
# Models that are removed once they were measured: those of entries that say so, and what only they
# are rounded from. No result depends on it.
KEPT = {
    recipe.name
    for sweep in config["quantize"]
    if sweep["keep"]
    for recipe in Recipe.of_sweep(sweep)
}
KEPT |= KNOWN.keys() - RECIPES.keys()
KEPT |= {KNOWN[name].unrounded.name for name in KEPT} - RECIPES.keys()
BRIEF = {**KNOWN, **PLAIN}.keys() - KEPT


wildcard_constraints:
    recipe=one_of({**KNOWN, **PLAIN, **config["candidates"]}),  # these stand where recipes do
    plain=one_of(PLAIN),
    rounded=one_of(ROUNDED),


def only(pattern, **names):
    """A pattern whose wildcards take these names alone, also in S3, where rules' constraints do not hold."""
    for wildcard, allowed in names.items():
        pattern = pattern.replace(f"{{{wildcard}}}", f"{{{wildcard},{one_of(allowed)}}}")
    return pattern


def imatrix_of(model, recipe):
    """The imatrix of a recipe, if it has one: a user's file, or what is made of a calibration."""
    if recipe.imatrix is None:
        return []
    if recipe.imatrix in IMATRIX_FILES:
        return [ancient(local(IMATRIX_FILES[recipe.imatrix]["path"]))]
    return [f"results/{model}/imatrix/{recipe.imatrix}.gguf"]


def pool_of(recipe):
    """The corpus whose pool a recipe is measured on: that of its imatrix, or the first evaluated."""
    calibration = CALIBRATIONS.get(recipe.imatrix)
    return calibration.corpus if calibration else config["evaluation"]["corpora"][0]


def imatrix_options(recipe):
    """A recipe's imatrix where it is a user's file, and what it does not say itself."""
    entry = IMATRIX_FILES.get(recipe.imatrix, {})
    return {"imatrix": entry.get("path"), "imatrix_n_ctx": entry.get("n_ctx")}


def labels(recipe):
    """What a table says of a recipe."""
    found = {"name": recipe.name, "type": recipe.label, "imatrix": recipe.imatrix or "none"}
    found |= {"rounding": recipe.rounding, "plain": recipe.unrounded.name}
    return found | {"foreign": False}


def options_of(recipe):
    """What llama.cpp carries out of a recipe, as options of the command."""
    unreached = config["imatrix"]["unreached"] if recipe.imatrix else None
    return recipe.options(BY_LLAMA) | imatrix_options(recipe) | {"unreached": unreached}


def recipe_bytes(model, recipe):
    """Bytes of the file that a recipe makes, before it is made."""
    shape = shape_of(model)
    if recipe.like:
        return size_of(recipe.like)
    size = Size.parse(recipe.mix.size) if recipe.mix else Size(stock=recipe.type)
    if size.stock:
        return stages.quantized_bytes(shape, size.stock)
    return size.bytes or shape.weights * size.bits / 8


def recipe_files(wildcards):
    """What a recipe quantizes with: its imatrix, the types that were chosen, the file that it is like."""
    recipe = PLAIN[wildcards.plain]
    return {
        "imatrix": imatrix_of(wildcards.model, recipe),
        "mix": [f"results/{wildcards.model}/mix/{recipe.name}.json"] if recipe.mix else [],
        "like": [ancient(local(recipe.like))] if recipe.like else [],
    }


def recipe_options(wildcards):
    """A recipe as options of the command; where it fails, the others are summarized all the same."""
    recipe = PLAIN[wildcards.plain]
    return options_of(recipe) | {"like": recipe.like, "keep_failure": True}


def quantize_cost(wildcards, gpu=0):
    """All weights, by the search of their type."""
    recipe = PLAIN[wildcards.plain]
    size = recipe_bytes(wildcards.model, recipe)
    return stages.quantize(shape_of(wildcards.model), recipe.type, size)


rule quantize:
    """Quantize a model by a recipe: type, imatrix, options."""
    input:
        unpack(recipe_files),
        script=ancient(script_path("quantize.py")),
        model=ancient(model_path),
        info="results/{model}/model.json",
    output:
        model=only("results/{model}/quantize/{plain}.gguf", plain=PLAIN.keys() - BRIEF),
        info=only("results/{model}/quantize/{plain}.json", plain=PLAIN.keys() - BRIEF),
    log:
        "results/logs/{model}/quantize/{plain}.log",
    benchmark:
        only("results/benchmarks/{model}/quantize/{plain}.tsv", plain=PLAIN.keys() - BRIEF)
    conda:
        "../envs/quern.yaml"
    threads: 8
    resources:
        **asked(quantize_cost),
    params:
        **decided("quantize.py", recipe_options, ("imatrix", "mix", "like")),
    shell:
        "python {input.script:q} --log {log:q}"
        " --model {input.model:q}"
        " --info {input.info:q}"
        " {params.options}"
        " --threads {threads}"
        " --output {output.model:q}"
        " --output-info {output.info:q}"


use rule quantize as quantize_briefly with:
    output:
        model=temp(only("results/{model}/quantize/{plain}.gguf", plain=PLAIN.keys() & BRIEF)),
        info=only("results/{model}/quantize/{plain}.json", plain=PLAIN.keys() & BRIEF),
    benchmark:
        only("results/benchmarks/{model}/quantize/{plain}.tsv", plain=PLAIN.keys() & BRIEF)


def rounding_files(wildcards):
    """What llama.cpp made of a recipe, and with what it is rounded again."""
    model, recipe = wildcards.model, ROUNDED[wildcards.rounded]
    stem = f"results/{model}/quantize/{recipe.unrounded.name}"
    return {
        "quantized": ancient(f"{stem}.gguf"),
        "info": f"{stem}.json",
        "imatrix": imatrix_of(model, recipe),
        "baseline_info": f"results/{model}/model.json" if recipe.needs_moments else [],
    }


def rounding_moments(wildcards):
    """The moments that a rounding needs."""
    recipe = ROUNDED[wildcards.rounded]
    return moments_files(wildcards.model, pool_of(recipe)) if recipe.needs_moments else []


def rounding_options(wildcards):
    """A recipe's rounding as options of the command."""
    recipe = ROUNDED[wildcards.rounded]
    return recipe.options(BY_ROUNDING) | imatrix_options(recipe)


def reround_cost(wildcards, gpu=0):
    """All weights, by a recipe's rounding."""
    recipe = ROUNDED[wildcards.rounded]
    size = recipe_bytes(wildcards.model, recipe)
    return stages.reround(shape_of(wildcards.model), recipe.type, recipe.rounding, size)


rule reround:
    """Round the weights of what llama.cpp quantized again, from the unquantized ones."""
    input:
        unpack(rounding_files),
        script=ancient(script_path("reround.py")),
        baseline=ancient(model_path),
        moments=rounding_moments,
    output:
        model=only("results/{model}/quantize/{rounded}.gguf", rounded=ROUNDED.keys() - BRIEF),
        info=only("results/{model}/quantize/{rounded}.json", rounded=ROUNDED.keys() - BRIEF),
    log:
        "results/logs/{model}/quantize/{rounded}.log",
    benchmark:
        only("results/benchmarks/{model}/quantize/{rounded}.tsv", rounded=ROUNDED.keys() - BRIEF)
    conda:
        "../envs/quern.yaml"
    threads: 8
    resources:
        **asked(reround_cost),
    params:
        **decided("reround.py", rounding_options, ("imatrix", "moments", "baseline_info")),
    shell:
        "python {input.script:q} --log {log:q}"
        " --baseline {input.baseline:q}"
        " --quantized {input.quantized:q}"
        " --info {input.info:q}"
        " {params.options}"
        " --threads {threads}"
        " --output {output.model:q}"
        " --output-info {output.info:q}"


use rule reround as reround_briefly with:
    output:
        model=temp(only("results/{model}/quantize/{rounded}.gguf", rounded=ROUNDED.keys() & BRIEF)),
        info=only("results/{model}/quantize/{rounded}.json", rounded=ROUNDED.keys() & BRIEF),
    benchmark:
        only("results/benchmarks/{model}/quantize/{rounded}.tsv", rounded=ROUNDED.keys() & BRIEF)


rule quantized:
    """Only the quantized models that are kept."""
    input:
        for_models(
            "results/{model}/quantize/{recipe}.gguf",
            recipe=[name for name in RECIPES if name not in BRIEF],
        ),
