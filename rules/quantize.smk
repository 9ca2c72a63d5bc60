"""Quantized models, one a recipe."""

from quern.quantize.recipes import (
    BY_LLAMA,
    BY_ROUNDING,
    Recipe,
    carried_out_by_llama,
    recipes_of,
)

with sentences():
    RECIPES = recipes_of(config)
    IMATRIX_FILES = {
        name: {"path": entry} if isinstance(entry, str) else entry
        for name, entry in config["imatrix"]["files"].items()
    }
    for name, entry in IMATRIX_FILES.items():
        is_corpus = name in config["corpora"]
        require(not is_corpus, ["imatrix", "files", name], "a corpus has this name; choose another")
        require_file(["imatrix", "files", name], entry["path"])
    for i, sweep in enumerate(config["quantize"]):
        likes = sweep.get("like", [])
        for path in [likes] if isinstance(likes, str) else likes:
            for shard in shards(Path(path)):
                require_file(["quantize", i, "like"], shard)
# Those of the configuration, which tables list, and those of studies.
KNOWN = dict(RECIPES)
with sentences():
    for study, plan in PLANS.items():
        for name, recipe in plan.recipes.items():
            said = f"another recipe {name} has other options; give its entry another variant"
            require(KNOWN.setdefault(name, recipe) == recipe, ["studies", study], said)
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


def only(
    pattern,
    **names,
):
    """A pattern whose wildcards take these names alone, also in S3, where rules' constraints do not hold."""
    for wildcard, allowed in names.items():
        pattern = pattern.replace(f"{{{wildcard}}}", f"{{{wildcard},{one_of(allowed)}}}")
    return pattern


def imatrix_of(
    model,
    recipe,
):
    """The imatrix of a recipe, if it has one: a user's file, or what is made of a calibration."""
    if recipe.imatrix is None:
        return []
    if recipe.imatrix in IMATRIX_FILES:
        return [ancient(local(IMATRIX_FILES[recipe.imatrix]["path"]))]
    return [f"results/{model}/imatrix/{recipe.imatrix}.gguf"]


def settings_of(
    recipe,
):
    """A recipe, the content of an imatrix that is a user's file, the policy for what it lacks."""
    settings = recipe.as_dict()
    if recipe.imatrix:
        settings["unreached"] = config["imatrix"]["unreached"]
    if recipe.like:
        settings["like"] = [CONTENT.of(path) for path in shards(Path(recipe.like))]
    if recipe.imatrix in IMATRIX_FILES:
        entry = IMATRIX_FILES[recipe.imatrix]
        settings |= {"sha256": CONTENT.of(entry["path"]), "n_ctx": entry.get("n_ctx")}
    return settings


def pool_of(
    recipe,
):
    """The corpus whose pool a recipe is measured on: that of its imatrix, or the first evaluated."""
    calibration = CALIBRATIONS.get(recipe.imatrix)
    return calibration.corpus if calibration else config["evaluation"]["corpora"][0]


def imatrix_options(
    recipe,
    input,
):
    """The imatrix among a job's inputs as options, with what its file does not say."""
    found = {"imatrix": input.imatrix}
    if n_ctx := IMATRIX_FILES.get(recipe.imatrix, {}).get("n_ctx"):
        found["imatrix_n_ctx"] = n_ctx
    return found


def options_of(
    recipe,
    input,
):
    """A recipe as options of the command, with the imatrix among a job's inputs."""
    options = recipe.options(BY_LLAMA)
    if recipe.imatrix:
        options |= imatrix_options(recipe, input)
        options["unreached"] = config["imatrix"]["unreached"]
    return flags(options)


def recipe_imatrix(
    wildcards,
):
    """What a recipe quantizes with."""
    return imatrix_of(wildcards.model, PLAIN[wildcards.plain])


def recipe_mix(
    wildcards,
):
    """The types that were chosen, where they are."""
    recipe = PLAIN[wildcards.plain]
    return [f"results/{wildcards.model}/mix/{recipe.name}.json"] if recipe.mix else []


def recipe_like(
    wildcards,
):
    """The file whose types are taken, where there is one."""
    recipe = PLAIN[wildcards.plain]
    return [ancient(local(recipe.like))] if recipe.like else []


def recipe_settings(
    wildcards,
):
    """What a recipe's result depends on besides its inputs."""
    return {"code": code("quantize.py")} | settings_of(PLAIN[wildcards.plain])


def recipe_options(
    wildcards,
    input,
):
    """A recipe as options of the command; where it fails, the others are summarized all the same."""
    own = flags({"mix": input.mix, "like": input.like, "keep_failure": True})
    return f"{options_of(PLAIN[wildcards.plain], input)} {own}"


def quantize_cost(
    wildcards,
    gpu=0,
):
    """All weights, by the search of their type."""
    recipe = PLAIN[wildcards.plain]
    size = recipe_bytes(wildcards.model, recipe)
    return stages.quantize(shape_of(wildcards.model), recipe.type, size)


rule quantize:
    """Quantize a model by a recipe: type, imatrix, options."""
    input:
        script=ancient(script_path("quantize.py")),
        model=ancient(model_path),
        info="results/{model}/model.json",
        imatrix=recipe_imatrix,
        mix=recipe_mix,
        like=recipe_like,
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
        mem_mb=memory(quantize_cost),
        runtime=minutes(quantize_cost),
        seconds=seconds(quantize_cost),
        disk_mb=disk(quantize_cost),
    params:
        settings=recipe_settings,
        options=recipe_options,
    shell:
        "python {input.script:q}"
        " --model {input.model:q}"
        " --info {input.info:q}"
        " {params.options}"
        " --threads {threads}"
        " --output {output.model:q}"
        " --output-info {output.info:q}"
        " --log {log:q}"


use rule quantize as quantize_briefly with:
    output:
        model=temp(only("results/{model}/quantize/{plain}.gguf", plain=PLAIN.keys() & BRIEF)),
        info=only("results/{model}/quantize/{plain}.json", plain=PLAIN.keys() & BRIEF),
    benchmark:
        only("results/benchmarks/{model}/quantize/{plain}.tsv", plain=PLAIN.keys() & BRIEF)


def rounding_model(
    wildcards,
):
    """The model that is rounded again: what llama.cpp made."""
    return f"results/{wildcards.model}/quantize/{ROUNDED[wildcards.rounded].unrounded.name}.gguf"


def rounding_info(
    wildcards,
):
    """Its description."""
    return rounding_model(wildcards).removesuffix("gguf") + "json"


def rounding_imatrix(
    wildcards,
):
    """What it was quantized with."""
    return imatrix_of(wildcards.model, ROUNDED[wildcards.rounded])


def rounding_moments(
    wildcards,
):
    """The moments that a rounding needs."""
    recipe = ROUNDED[wildcards.rounded]
    return moments_files(wildcards.model, pool_of(recipe)) if recipe.needs_moments else []


def rounding_settings(
    wildcards,
):
    """What a rounding's result depends on besides its inputs."""
    return {"code": code("reround.py")} | settings_of(ROUNDED[wildcards.rounded])


def rounding_options(
    wildcards,
    input,
):
    """A recipe's rounding as options of the command."""
    recipe = ROUNDED[wildcards.rounded]
    options = recipe.options(BY_ROUNDING) | imatrix_options(recipe, input)
    if recipe.needs_moments:
        options |= {"moments": input.moments, "baseline_info": input.baseline_info}
    return flags(options)


def reround_cost(
    wildcards,
    gpu=0,
):
    """All weights, by a recipe's rounding."""
    recipe = ROUNDED[wildcards.rounded]
    size = recipe_bytes(wildcards.model, recipe)
    return stages.reround(shape_of(wildcards.model), recipe.type, recipe.rounding, size)


rule reround:
    """Round the weights of what llama.cpp quantized again, from the unquantized ones."""
    input:
        script=ancient(script_path("reround.py")),
        baseline=ancient(model_path),
        model=ancient(rounding_model),
        info=rounding_info,
        imatrix=rounding_imatrix,
        moments=rounding_moments,
        baseline_info="results/{model}/model.json",
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
        mem_mb=memory(reround_cost),
        runtime=minutes(reround_cost),
        seconds=seconds(reround_cost),
        disk_mb=disk(reround_cost),
    params:
        settings=rounding_settings,
        options=rounding_options,
    shell:
        "python {input.script:q}"
        " --baseline {input.baseline:q}"
        " --quantized {input.model:q}"
        " --info {input.info:q}"
        " {params.options}"
        " --threads {threads}"
        " --output {output.model:q}"
        " --output-info {output.info:q}"
        " --log {log:q}"


use rule reround as reround_briefly with:
    output:
        model=temp(only("results/{model}/quantize/{rounded}.gguf", rounded=ROUNDED.keys() & BRIEF)),
        info=only("results/{model}/quantize/{rounded}.json", rounded=ROUNDED.keys() & BRIEF),
    benchmark:
        only("results/benchmarks/{model}/quantize/{rounded}.tsv", rounded=ROUNDED.keys() & BRIEF)


rule quantized:
    """Only the quantized models that are kept."""
    input:
        expand(
            "results/{model}/quantize/{recipe}.gguf",
            model=config["models"],
            recipe=[name for name in RECIPES if name not in BRIEF],
        ),
