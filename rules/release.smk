"""The release: chosen recipes, named and described, in a folder that can be uploaded as it is."""

RELEASE = config["release"]

with sentences():
    if isinstance(RELEASE["recipes"], list):
        for i, name in enumerate(RELEASE["recipes"]):
            require(
                name not in config["candidates"],
                ["release", "recipes", i],
                f"{name} was made by somebody else; only recipes of your own are released",
            )
            require(
                name in RECIPES, ["release", "recipes", i], configuration.unknown(name, RECIPES)
            )
    for key in ("name", "base_model"):
        require(
            RELEASE[key] is None or len(config["models"]) == 1,
            ["release", key],
            "it is of one model, and there are several; give each a configuration of its own",
        )

NAMED = isinstance(RELEASE["recipes"], list)
# What it may take: which recipes answer for the budgets is known once they are measured.
RELEASABLE = RELEASE["recipes"] if NAMED else list(RECIPES)


def release_models(
    wildcards,
):
    """The files of all recipes that it may take."""
    removed = sorted(BRIEF & set(RELEASABLE))
    with sentences():
        require(
            not removed,
            ["release", "recipes"],
            f"a release may take {', '.join(removed)}, removed because of keep: false; name other "
            "recipes, or keep these",
        )
    return [f"results/{wildcards.model}/quantize/{name}.gguf" for name in RELEASABLE]


RELEASED_IMATRICES = {RECIPES[name].imatrix for name in RELEASABLE} - {None}


def release_labels(
    names,
):
    """What a release says of these recipes."""
    return [labels(RECIPES[name]) for name in names]


def release_sweep(
    wildcards,
):
    """All recipes that a release may take, as an option of the command."""
    return json.dumps(release_labels(RELEASABLE))


def release_options(
    wildcards,
):
    """What the user says of it, as options of the command."""
    options = {key: value for key, value in RELEASE.items() if key != "recipes"}
    options["split"] = options["split"] or "none"
    also = {"memory": True, "speed": bool(SPEED), "pages": True}
    return flags(options | also)


def release_settings(
    wildcards,
):
    """What a release depends on besides its inputs."""
    return {
        "code": code("release.py"),
        "templates": templates("release"),
        "recipes": release_labels(RELEASABLE),
        "chosen": RELEASE["recipes"],
        "options": release_options(wildcards),
        "corpora": config["evaluation"]["corpora"],
    }


def users_imatrices(
    wildcards,
):
    """Imatrices that are users' files and that recipes use, with their hashes."""
    used = sorted(RELEASED_IMATRICES & IMATRIX_FILES.keys())
    return [f"{name}={CONTENT.of(IMATRIX_FILES[name]['path'])}" for name in used]


RELEASE_INPUTS = {
    "models": ancient(release_models),
    "info": expand("results/{{model}}/quantize/{recipe}.json", recipe=RELEASABLE),
    "compare": expand(
        "results/{{model}}/compare/{recipe}/{corpus}.json",
        recipe=RELEASABLE,
        corpus=config["evaluation"]["corpora"],
    ),
    "positions": ancient(
        expand(
            "results/{{model}}/compare/{recipe}/{corpus}.h5",
            recipe=RELEASABLE,
            corpus=config["evaluation"]["corpora"],
        )
    ),
    "baseline": ancient(
        expand("results/{{model}}/baseline/{corpus}.h5", corpus=config["evaluation"]["corpora"])
    ),
    "imatrices": expand(
        "results/{{model}}/imatrix/{corpus}.{ending}",
        corpus=sorted(RELEASED_IMATRICES & CALIBRATIONS.keys()),
        ending=["gguf", "json"],
    ),
    "answers": expand(
        ["results/{{model}}/report/{corpus}.json", "results/{{model}}/report/{corpus}/index.html"],
        corpus=config["evaluation"]["corpora"],
    ),
    "memory": expand("results/{{model}}/memory/{recipe}.json", recipe=RELEASABLE),
    "speed": ["results/{model}/speed.json"] if SPEED else [],
}


def release_cost(
    wildcards,
    gpu=0,
):
    """All files hashed; those that are cut are written again."""
    model = wildcards.model
    return stages.release([measured_bytes(model, name) for name in RELEASABLE])


rule release_model:
    """Lay out a model's release; whole, or not at all. Nothing is uploaded."""
    input:
        **RELEASE_INPUTS,
        script=ancient(script_path("release.py")),
    output:
        folder=directory("results/release/{model}"),
    log:
        "results/logs/{model}/release.log",
    benchmark:
        "results/benchmarks/{model}/release.tsv"
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        mem_mb=memory(release_cost),
        runtime=minutes(release_cost),
        seconds=seconds(release_cost),
        disk_mb=disk(release_cost),
    params:
        settings=release_settings,
        sweep=release_sweep,
        recipes=RELEASE["recipes"] if NAMED else [RELEASE["recipes"]],
        corpora=config["evaluation"]["corpora"],
        imatrices=sorted(RELEASED_IMATRICES & CALIBRATIONS.keys()),
        imatrix_files=users_imatrices,
        options=release_options,
    shell:
        "python {input.script:q}"
        " --results results/{wildcards.model}"
        " --title {wildcards.model}"
        " --corpora {params.corpora:q}"
        " --sweep {params.sweep:q}"
        " --recipes {params.recipes:q}"
        " --imatrices {params.imatrices:q}"
        " --imatrix-files {params.imatrix_files:q}"
        " {params.options}"
        " --output {output.folder:q}"
        " --log {log:q}"


rule release:
    """Only the releases, which are asked for by this name alone."""
    input:
        expand("results/release/{model}", model=config["models"]),
