"""Mixes: what each tensor's error costs, how large it is in each type, the mix for each size."""

MIXES = {name: recipe for name, recipe in PLAIN.items() if recipe.mix}
# What damages and errors are measured with: imatrices, and roundings.
IMPORTANCES = {recipe.imatrix or "none": recipe for recipe in MIXES.values()}
WEIGHINGS = {recipe.mix.rounding: recipe for recipe in MIXES.values()}
MIX_TYPES = sorted({kind for recipe in MIXES.values() for kind in recipe.mix.types})
LARGE = 2e9  # bytes of a model from which on a window's damages are shared among jobs
MIX_PARTS = 8
READ += expand(
    "results/{model}/mix/{importances}.png",
    model=config["models"],
    importances=IMPORTANCES,
)


wildcard_constraints:
    importances=one_of(IMPORTANCES),
    weighing=one_of(WEIGHINGS),
    mixed=one_of(MIXES),
    turn=r"\d+",


def mix_tokens(
    wildcards,
):
    """The tokens of that pool."""
    pool = pool_of(IMPORTANCES[wildcards.importances])
    return f"results/{wildcards.model}/tokens/{pool}.pool.h5"


def mix_facts(
    wildcards,
):
    """What is known of them."""
    return mix_tokens(wildcards).removesuffix("h5") + "json"


def importances_file(
    wildcards,
):
    """That imatrix."""
    return imatrix_of(wildcards.model, IMPORTANCES[wildcards.importances])


def importances_options(
    wildcards,
    input,
):
    """The same as options."""
    recipe = IMPORTANCES[wildcards.importances]
    return flags(imatrix_options(recipe, input) if recipe.imatrix else {})


def importances_content(
    recipe,
):
    """The content of an imatrix that is a user's file."""
    entry = IMATRIX_FILES.get(recipe.imatrix)
    return [CONTENT.of(entry["path"]), entry.get("n_ctx")] if entry else None


def damage_settings(
    wildcards,
):
    """What damage depends on besides its inputs."""
    content = importances_content(IMPORTANCES[wildcards.importances])
    return {"code": code("damage.py"), "n_ctx": config["imatrix"]["n_ctx"], "imatrix": content}


def damage_options(
    wildcards,
    input,
):
    """The window, the part of the tensors, the imatrix."""
    own = {
        "n_ctx": config["imatrix"]["n_ctx"],
        "turn": wildcards.turn,
        "part": wildcards.share.replace("of", "/"),
    }
    return f"{flags(own)} {importances_options(wildcards, input)}"


def damage_cost(
    wildcards,
    gpu=0,
):
    """A window decoded for each tensor of a part."""
    n_ctx = config["imatrix"]["n_ctx"]
    parts = int(wildcards.share.partition("of")[2])
    window = Decoded(1, n_ctx, n_ctx // 2 - 1)
    return stages.damage(shape_of(wildcards.model), window, parts, gpu)


rule damage:
    """Measure what the error of each tensor costs end to end, on a window of the pool."""
    input:
        script=ancient(script_path("damage.py")),
        model=ancient(model_path),
        info="results/{model}/model.json",
        imatrix=importances_file,
        tokens=ancient(mix_tokens),
        facts=mix_facts,
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
        mem_mb=memory(damage_cost),
        runtime=minutes(damage_cost),
        seconds=seconds(damage_cost),
        disk_mb=disk(damage_cost),
        gpu=0,
    params:
        settings=damage_settings,
        options=damage_options,
    shell:
        "python {input.script:q}"
        " --model {input.model:q}"
        " --info {input.info:q}"
        " --tokens {input.tokens:q}"
        " {params.options}"
        " --threads {threads}"
        " --gpus {resources.gpu}"
        " --output {output.store:q}"
        " --log {log:q}"


def errors_settings(
    wildcards,
):
    """What errors depend on besides their inputs."""
    content = importances_content(IMPORTANCES[wildcards.importances])
    return {"code": code("mix_errors.py"), "types": MIX_TYPES, "imatrix": content}


def errors_options(
    wildcards,
    input,
):
    """The rounding, the types, the imatrix."""
    recipe = WEIGHINGS[wildcards.weighing]
    own = {"rounding": recipe.mix.rounding, "types": MIX_TYPES}
    own |= {"moments": input.moments} if input.moments else {}
    return f"{flags(own)} {importances_options(wildcards, input)}"


def errors_moments(
    wildcards,
):
    """The moments that its rounding needs."""
    if WEIGHINGS[wildcards.weighing].mix.rounding != "compensated":
        return []
    return moments_files(wildcards.model, pool_of(IMPORTANCES[wildcards.importances]))


def errors_cost(
    wildcards,
    gpu=0,
):
    """A sample of each tensor rounded to all types."""
    how = WEIGHINGS[wildcards.weighing].mix.rounding
    return stages.mix_errors(shape_of(wildcards.model), MIX_TYPES, how)


rule mix_errors:
    """Compare the rounding errors of all types, tensor by tensor."""
    input:
        script=ancient(script_path("mix_errors.py")),
        model=ancient(model_path),
        info="results/{model}/model.json",
        imatrix=importances_file,
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
        mem_mb=memory(errors_cost),
        runtime=minutes(errors_cost),
        seconds=seconds(errors_cost),
        disk_mb=disk(errors_cost),
    params:
        settings=errors_settings,
        options=errors_options,
    shell:
        "python {input.script:q}"
        " --model {input.model:q}"
        " --info {input.info:q}"
        " {params.options}"
        " --threads {threads}"
        " --output {output.errors:q}"
        " --log {log:q}"


def mix_damage(
    wildcards,
):
    """The damages that a mix is chosen by: all windows, all parts."""
    importances = MIXES[wildcards.mixed].imatrix or "none"
    parts = MIX_PARTS if size_when_there(wildcards.model) > LARGE else 1
    return [
        f"results/{wildcards.model}/mix/damage/{importances}/{turn}/{part}of{parts}.h5"
        for turn in range(config["mixes"]["windows"])
        for part in range(1, parts + 1)
    ]


def mix_errors_of(
    wildcards,
):
    """The errors that a mix is chosen by."""
    recipe = MIXES[wildcards.mixed]
    folder = f"results/{wildcards.model}/mix/errors/{recipe.imatrix or 'none'}"
    return f"{folder}/{recipe.mix.rounding}.json"


def mixed_imatrix(
    wildcards,
):
    """The imatrix that a mix is quantized with."""
    return imatrix_of(wildcards.model, MIXES[wildcards.mixed])


def mixed_tokens(
    wildcards,
):
    """The tokens of the pool that it is proved on."""
    return f"results/{wildcards.model}/tokens/{pool_of(MIXES[wildcards.mixed])}.pool.h5"


def mixed_settings(
    wildcards,
):
    """What a mix depends on besides its inputs."""
    recipe = MIXES[wildcards.mixed]
    return {
        "code": code("mix.py"),
        "mix": recipe.as_dict()["mix"],
        "imatrix": importances_content(recipe),
        "n_ctx": config["imatrix"]["n_ctx"],
        "windows": config["mixes"]["proof_windows"],
    }


def mixed_options(
    wildcards,
    input,
):
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
    return flags(own | (imatrix_options(recipe, input) if recipe.imatrix else {}))


def mix_cost(
    wildcards,
    gpu=0,
):
    """The mix and stock mixes beside it, on windows of the pool."""
    n_ctx = config["imatrix"]["n_ctx"]
    count = config["mixes"]["windows"] + config["mixes"]["proof_windows"]
    windows = Decoded(count, n_ctx, n_ctx // 2 - 1)
    how = MIXES[wildcards.mixed].mix.rounding
    return stages.mix(shape_of(wildcards.model), windows, how, gpu)


rule mix:
    """Choose the type of each tensor for a size, and prove the mix beside stock mixes."""
    input:
        script=ancient(script_path("mix.py")),
        model=ancient(model_path),
        info="results/{model}/model.json",
        imatrix=mixed_imatrix,
        damage=mix_damage,
        errors=mix_errors_of,
        tokens=ancient(mixed_tokens),
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
        mem_mb=memory(mix_cost),
        runtime=minutes(mix_cost),
        seconds=seconds(mix_cost),
        disk_mb=disk(mix_cost),
        gpu=0,
    params:
        settings=mixed_settings,
        options=mixed_options,
    shell:
        "python {input.script:q}"
        " --model {input.model:q}"
        " --info {input.info:q}"
        " --damage {input.damage:q}"
        " --errors {input.errors:q}"
        " --tokens {input.tokens:q}"
        " {params.options}"
        " --threads {threads}"
        " --gpus {resources.gpu}"
        " --output {output.mix:q}"
        " --type-file {output.types:q}"
        " --log {log:q}"


def pictured(
    wildcards,
):
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
        picture=report(
            "results/{model}/mix/{importances}.png",
            caption="captions/mix.rst",
            category="mix",
            subcategory="{model}",
            labels={"of": "{importances}", "what": "picture"},
        ),
    log:
        "results/logs/{model}/mix/{importances}.picture.log",
    benchmark:
        "results/benchmarks/{model}/mix/{importances}.picture.tsv"
    localrule: True
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        settings={"code": code("mix_picture.py")},
    shell:
        "python {input.script:q}"
        " --mixes {input.mixes:q}"
        " --title '{wildcards.model}: mixes with imatrix {wildcards.importances}'"
        " --picture {output.picture:q}"
        " --log {log:q}"


rule mixes:
    """Only the mixes."""
    input:
        expand("results/{model}/mix/{mixed}.json", model=config["models"], mixed=MIXES),
