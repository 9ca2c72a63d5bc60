"""The release: chosen recipes, named and described, in a folder to upload.

Needs: common, costs, axes, quantize, foreign, speed.
"""

import json

from quern.cost import stages

RELEASE = config["release"]

with sentences():
    if isinstance(RELEASE["recipes"], list):
        for i, name in enumerate(RELEASE["recipes"]):
            require(
                name not in config["candidates"],
                ["release", "recipes", i],
                f"{name} was made by somebody else; only recipes of your own are released",
            )
            require.known(["release", "recipes", i], name, RECIPES)
    for key in ("name", "base_model"):
        require(
            RELEASE[key] is None or len(config["models"]) == 1,
            ["release", key],
            "it is of one model, and there are several; give each a configuration of its own",
        )

NAMED = isinstance(RELEASE["recipes"], list)
# What it may take: which recipes answer for the budgets is known once they are measured.
RELEASABLE = RELEASE["recipes"] if NAMED else list(RECIPES)


def release_models(wildcards):
    """The files of all recipes that it may take."""
    removed = sorted(BRIEF & set(RELEASABLE))
    with sentences():
        require(
            not removed,
            ["release", "recipes"],
            f"a release may take {', '.join(removed)}, removed because of keep: false; name other "
            "recipes, or keep these",
        )
    return [ancient(f"results/{wildcards.model}/quantize/{name}.gguf") for name in RELEASABLE]


RELEASED_IMATRICES = {RECIPES[name].imatrix for name in RELEASABLE} - {None}
# What its command takes besides files: options, and lists that are options in the command below.
RELEASE_OPTIONS = {key: value for key, value in RELEASE.items() if key != "recipes"}
RELEASE_OPTIONS |= {"split": RELEASE["split"] or "none"}
RELEASE_OPTIONS |= {"memory": True, "speed": bool(SPEED), "pages": True}
RELEASED = {
    "corpora": config["evaluation"]["corpora"],
    "recipes": RELEASE["recipes"] if NAMED else [RELEASE["recipes"]],
    "sweep": json.dumps([labels(RECIPES[n]) for n in RELEASABLE]),
    "imatrices": sorted(RELEASED_IMATRICES & CALIBRATIONS.keys()),
}


def users_imatrices(wildcards):
    """Imatrices that are users' files and that recipes use, with their hashes."""
    used = sorted(RELEASED_IMATRICES & IMATRIX_FILES.keys())
    paths = {name: IMATRIX_FILES[name]["path"] for name in used}
    return [f"{name}={CONTENT.of(path)}={path}" for name, path in paths.items()]


def release_files(wildcards):
    """All that it is made of."""
    folder, corpora = f"results/{wildcards.model}", RELEASED["corpora"]
    compared = [f"{name}/{corpus}" for name in RELEASABLE for corpus in corpora]
    imatrices = [f"{folder}/imatrix/{name}" for name in RELEASED["imatrices"]]
    reports = [f"{folder}/report/{corpus}" for corpus in corpora]
    return {
        "models": release_models(wildcards),
        "info": [f"{folder}/quantize/{name}.json" for name in RELEASABLE],
        "compare": [f"{folder}/compare/{stem}.json" for stem in compared],
        "positions": [ancient(f"{folder}/compare/{stem}.h5") for stem in compared],
        "baseline": [ancient(f"{folder}/baseline/{corpus}.h5") for corpus in corpora],
        "imatrices": [f"{stem}.{ending}" for stem in imatrices for ending in ("gguf", "json")],
        "answers": [f"{stem}.json" for stem in reports],
        "pages": [f"{stem}/index.html" for stem in reports],
        "memory": [f"{folder}/memory/{name}.json" for name in RELEASABLE],
        "speed": speed_file(wildcards),
    }


def release_cost(wildcards, gpu=0):
    """All files hashed; those that are cut are written again."""
    model = wildcards.model
    return stages.release([measured_bytes(model, name) for name in RELEASABLE])


rule release_model:
    """Lay out a model's release; whole, or not at all. Nothing is uploaded."""
    input:
        unpack(release_files),
        script=ancient(script_path("release.py")),
    output:
        # Not the folder: Snakemake would put a file of its own into it. This one is written last.
        sums="results/release/{model}/SHA256SUMS",
    log:
        "results/logs/{model}/release.log",
    benchmark:
        "results/benchmarks/{model}/release.tsv"
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        **asked(release_cost),
    params:
        **decided("release.py", RELEASE_OPTIONS, templates=templates("release"), lists=RELEASED),
        **RELEASED,
        imatrix_files=users_imatrices,
        folder=subpath(output.sums, parent=True),
    shell:
        "python {input.script:q} --log {log:q}"
        " --results results/{wildcards.model}"
        " --title {wildcards.model}"
        " --corpora {params.corpora:q}"
        " --sweep @/dev/fd/3"
        " --recipes {params.recipes:q}"
        " --imatrices {params.imatrices:q}"
        " --imatrix-files {params.imatrix_files:q}"
        " {params.options}"
        " --output {params.folder:q}"
        " 3<<< {params.sweep:q}"


rule release:
    """Only the releases, which are asked for by this name alone."""
    input:
        for_models("results/release/{model}/SHA256SUMS"),
