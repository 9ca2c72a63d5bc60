"""Mixes: what each tensor's error costs, how large it is in each type, the mix for each size.

Needs: common, costs, models, corpora, moments, quantize.
"""

from quern.cost import stages
from quern.cost.stages import Decoded

MIXES = {name: recipe for name, recipe in PLAIN.items() if recipe.mix}
# What damages and errors are measured with: imatrices, and roundings.
IMPORTANCES = {recipe.imatrix or "none": recipe for recipe in MIXES.values()}
WEIGHINGS = {recipe.mix.rounding: recipe for recipe in MIXES.values()}
MIX_TYPES = sorted({kind for recipe in MIXES.values() for kind in recipe.mix.possible})
LARGE = 2e9  # bytes of a model from which on a window's damages are shared among jobs
MIX_PARTS = 8
READ += for_models("results/{model}/mix/{importances}.png", importances=IMPORTANCES)


wildcard_constraints:
    importances=one_of(IMPORTANCES),
    weighing=one_of(WEIGHINGS),
    mixed=one_of(MIXES),
    turn=r"\d+",


def damage_files(wildcards):
    """The pool that damages are measured on, and the imatrix that mixes are quantized with."""
    recipe = IMPORTANCES[wildcards.importances]
    text = with_facts(wildcards.model, f"{pool_of(recipe)}.pool")
    return text | {"imatrix": imatrix_of(wildcards.model, recipe)}


def damage_options(wildcards):
    """The window, the part of the tensors, the imatrix."""
    own = {
        "n_ctx": config["imatrix"]["n_ctx"],
        "turn": wildcards.turn,
        "part": wildcards.share.replace("of", "/"),
    }
    return own | imatrix_options(IMPORTANCES[wildcards.importances])


def damage_cost(wildcards, gpu=0):
    """A window decoded for each tensor of a part."""
    n_ctx = config["imatrix"]["n_ctx"]
    parts = int(wildcards.share.partition("of")[2])
    window = Decoded(1, n_ctx, n_ctx // 2 - 1)
    return stages.damage(shape_of(wildcards.model), window, parts, gpu)


rule damage:
    """Measure what the error of each tensor costs end to end, on a window of the pool."""
    input:
        unpack(damage_files),
        script=ancient(script_path("damage.py")),
        model=ancient(model_path),
        info="results/{model}/model.json",
    output:
        store="results/{model}/mix/damage/{importances}/{turn}/{share}.h5",
    log:
        "results/logs/{model}/mix/damage/{importances}/{turn}/{share}.log",
    benchmark:
        "results/benchmarks/{model}/mix/damage/{importances}/{turn}/{share}.tsv"
    conda:
        MODEL_ENVIRONMENT
    threads: 8
    resources:
        **asked(damage_cost),
        gpu=0,
    params:
        **decided("damage.py", damage_options, ["imatrix"]),
    shell:
        "python {input.script:q} --log {log:q}"
        " --model {input.model:q}"
        " --info {input.info:q}"
        " --tokens {input.tokens:q}"
        " {params.options}"
        " --threads {threads} --gpus {resources.gpu}"
        " --output {output.store:q}"


def errors_imatrix(wildcards):
    """The imatrix that mixes are quantized with."""
    return imatrix_of(wildcards.model, IMPORTANCES[wildcards.importances])


def errors_moments(wildcards):
    """The moments that the rounding needs."""
    if WEIGHINGS[wildcards.weighing].mix.rounding != "compensated":
        return []
    return moments_files(wildcards.model, pool_of(IMPORTANCES[wildcards.importances]))


def errors_options(wildcards):
    """The rounding, the types, the imatrix."""
    recipe = WEIGHINGS[wildcards.weighing]
    own = {"rounding": recipe.mix.rounding, "types": MIX_TYPES}
    return own | imatrix_options(IMPORTANCES[wildcards.importances])


def errors_cost(wildcards, gpu=0):
    """A sample of each tensor rounded to all types."""
    how = WEIGHINGS[wildcards.weighing].mix.rounding
    return stages.mix_errors(shape_of(wildcards.model), MIX_TYPES, how)


rule mix_errors:
    """Compare the rounding errors of all types, tensor by tensor."""
    input:
        script=ancient(script_path("mix_errors.py")),
        model=ancient(model_path),
        info="results/{model}/model.json",
        imatrix=errors_imatrix,
        moments=errors_moments,
    output:
        errors="results/{model}/mix/errors/{importances}/{weighing}.json",
    log:
        "results/logs/{model}/mix/errors/{importances}/{weighing}.log",
    benchmark:
        "results/benchmarks/{model}/mix/errors/{importances}/{weighing}.tsv"
    conda:
        "../envs/quern.yaml"
    threads: 8
    resources:
        **asked(errors_cost),
    params:
        **decided("mix_errors.py", errors_options, ("imatrix", "moments")),
    shell:
        "python {input.script:q} --log {log:q}"
        " --model {input.model:q}"
        " --info {input.info:q}"
        " {params.options}"
        " --threads {threads}"
        " --output {output.errors:q}"


def mixed_damage(wildcards):
    """The damages that a mix is chosen by: all windows, all parts."""
    folder = f"results/{wildcards.model}/mix/damage/{MIXES[wildcards.mixed].imatrix or 'none'}"
    parts = MIX_PARTS if size_when_there(wildcards.model) > LARGE else 1
    return [
        f"{folder}/{turn}/{part}of{parts}.h5"
        for turn in range(config["mixes"]["windows"])
        for part in range(1, parts + 1)
    ]


def mixed_files(wildcards):
    """The errors that a mix is chosen by; with what it is quantized and proved."""
    model, recipe = wildcards.model, MIXES[wildcards.mixed]
    folder = f"results/{model}/mix/errors/{recipe.imatrix or 'none'}"
    return {
        "errors": f"{folder}/{recipe.mix.rounding}.json",
        "imatrix": imatrix_of(model, recipe),
        "tokens": ancient(f"results/{model}/tokens/{pool_of(recipe)}.pool.h5"),
    }


def mixed_options(wildcards):
    """The size, the types, the imatrix."""
    recipe = MIXES[wildcards.mixed]
    own = {
        "size": recipe.mix.size,
        "types": recipe.mix.types,
        "fixed": [f"{pattern}={kind}" for pattern, kind in recipe.mix.fixed],
        "fast_on": recipe.mix.fast_on,
        "rounding": recipe.mix.rounding,
        "n_ctx": config["imatrix"]["n_ctx"],
        "proof_windows": config["mixes"]["proof_windows"],
        "keep_failure": True,
    }
    return own | imatrix_options(recipe)


def mix_cost(wildcards, gpu=0):
    """The mix and stock mixes beside it, on windows of the pool."""
    n_ctx = config["imatrix"]["n_ctx"]
    count = config["mixes"]["windows"] + config["mixes"]["proof_windows"]
    windows = Decoded(count, n_ctx, n_ctx // 2 - 1)
    how = MIXES[wildcards.mixed].mix.rounding
    return stages.mix(shape_of(wildcards.model), windows, how, gpu)


rule mix:
    """Choose the type of each tensor for a size, and prove the mix beside stock mixes."""
    input:
        unpack(mixed_files),
        script=ancient(script_path("mix.py")),
        model=ancient(model_path),
        info="results/{model}/model.json",
        damage=mixed_damage,
    output:
        mix="results/{model}/mix/{mixed}.json",
        types="results/{model}/mix/{mixed}.txt",
    log:
        "results/logs/{model}/mix/{mixed}.log",
    benchmark:
        "results/benchmarks/{model}/mix/{mixed}.tsv"
    conda:
        MODEL_ENVIRONMENT
    threads: 8
    resources:
        **asked(mix_cost),
        gpu=0,
    params:
        **decided("mix.py", mixed_options, ["imatrix"]),
    shell:
        "python {input.script:q} --log {log:q}"
        " --model {input.model:q}"
        " --info {input.info:q}"
        " --damage {input.damage:q}"
        " --errors {input.errors:q}"
        " --tokens {input.tokens:q}"
        " {params.options}"
        " --threads {threads} --gpus {resources.gpu}"
        " --output {output.mix:q}"
        " --type-file {output.types:q}"


def pictured(wildcards):
    """The mixes with an imatrix, or with none."""
    return [
        f"results/{wildcards.model}/mix/{name}.json"
        for name, recipe in MIXES.items()
        if (recipe.imatrix or "none") == wildcards.importances
    ]


rule mix_picture:
    """Draw what each tensor's error costs, what the mixes chose, and the divergence by size."""
    input:
        script=ancient(script_path("mix_picture.py")),
        mixes=pictured,
    output:
        picture=shown("results/{model}/mix/{importances}.png", "mix", "{importances}"),
    log:
        "results/logs/{model}/mix/{importances}.picture.log",
    benchmark:
        "results/benchmarks/{model}/mix/{importances}.picture.tsv"
    localrule: True
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        **LIGHT,
    params:
        **decided("mix_picture.py"),
    shell:
        "python {input.script:q} --log {log:q}"
        " --mixes {input.mixes:q}"
        " --title '{wildcards.model}: mixes with imatrix {wildcards.importances}'"
        " --picture {output.picture:q}"


rule mixes:
    """Only the mixes."""
    input:
        for_models("results/{model}/mix/{mixed}.json", mixed=MIXES),
