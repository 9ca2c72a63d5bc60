"""Importance matrices: shards of each calibration pool, merged."""

from functools import partial
from itertools import takewhile

from quern.growth.ladder import ladder
from quern.growth.ladder import shards as cut_into_shards

# Corpora whose pools give an imatrix.
CALIBRATED = sorted({recipe.imatrix for recipe in RECIPES.values()} & set(config["corpora"]))
SHARD = {key: config["imatrix"][key] for key in ("n_ctx", "output_weight")}
PARTS = 16  # jobs that share a whole pool, whose length is not known before they run
GROWTH = config["growth"]
if GROWTH:
    # Windows of each step of the growth ladder, perhaps without end.
    rungs = partial(
        ladder,
        GROWTH["first_tokens"],
        GROWTH["factor"],
        GROWTH["largest_tokens"],
        config["imatrix"]["n_ctx"],
    )
READ += expand(
    "results/{model}/imatrix/{corpus}.png",
    model=config["models"],
    corpus=CALIBRATED,
)


wildcard_constraints:
    shard=r"\d+-\d+|\d+of\d+",
    windows=r"\d+|all|none",


def shard_options(
    wildcards,
):
    """A shard's windows, from one to another or as its part of the pool, and how they are read."""
    if "of" in wildcards.shard:
        return flags(SHARD | {"part": wildcards.shard.replace("of", "/")})
    first, last = wildcards.shard.split("-")
    return flags(SHARD | {"from": first, "to": last})


rule imatrix_shard:
    """Collect sums of squared inputs from some windows of a corpus's pool."""
    input:
        script=ancient(script_path("imatrix_shard.py")),
        model=ancient(model_path),
        info="results/{model}/model.json",
        tokens=ancient("results/{model}/tokens/{corpus}.pool.h5"),
        facts="results/{model}/tokens/{corpus}.pool.json",
    output:
        shard="results/{model}/imatrix/{corpus}/shards/{shard}.h5",
    log:
        "results/logs/{model}/imatrix/{corpus}/{shard}.log",
    benchmark:
        "results/benchmarks/{model}/imatrix/{corpus}/{shard}.tsv"
    conda:
        "../envs/quern.yaml"
    threads: 8
    resources:
        mem_mb=memory,
        runtime=minutes,
        gpu=0,
    params:
        settings={"code": code("imatrix_shard.py")} | SHARD,
        options=shard_options,
    shell:
        "python {input.script:q}"
        " --model {input.model:q}"
        " --info {input.info:q}"
        " --tokens {input.tokens:q}"
        " {params.options}"
        " --threads {threads}"
        " --gpus {resources.gpu}"
        " --tuning results/{wildcards.model}/tuning"
        " --output {output.shard:q}"
        " --log {log:q}"


def shards_of(
    wildcards,
):
    """The shards of an imatrix. They never reach over a rung, so that every step shares them."""
    folder = f"results/{wildcards.model}/imatrix/{wildcards.corpus}/shards"
    if wildcards.windows == "all":
        return [f"{folder}/{part}of{PARTS}.h5" for part in range(1, PARTS + 1)]
    windows = int(wildcards.windows)
    below = takewhile(windows.__gt__, rungs()) if GROWTH else []
    cuts = cut_into_shards([*below, windows], config["imatrix"]["shard_windows"])
    return [f"{folder}/{first}-{last}.h5" for first, last in cuts]


def windows_asked(
    wildcards,
):
    """How many windows there were to be; not said where it is all of them."""
    return flags({"windows": None if wildcards.windows == "all" else wildcards.windows})


rule imatrix:
    """Merge shards: the first windows of a pool, or all of it."""
    input:
        script=ancient(script_path("imatrix.py")),
        info="results/{model}/model.json",
        shards=shards_of,
    output:
        imatrix="results/{model}/imatrix/{corpus}/{windows}.gguf",
        report="results/{model}/imatrix/{corpus}/{windows}.json",
    log:
        "results/logs/{model}/imatrix/{corpus}/{windows}.log",
    benchmark:
        "results/benchmarks/{model}/imatrix/{corpus}/{windows}.tsv"
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        settings={"code": code("imatrix.py")},
        windows=windows_asked,
    shell:
        "python {input.script:q}"
        " --shards {input.shards:q}"
        " --info {input.info:q}"
        " {params.windows}"
        " --dataset {wildcards.corpus}/pool"
        " --output {output.imatrix:q}"
        " --report {output.report:q}"
        " --log {log:q}"


rule imatrix_statistics:
    """Describe an imatrix, tensor by tensor and layer by layer."""
    input:
        script=ancient(script_path("imatrix_statistics.py")),
        imatrix="results/{model}/imatrix/{corpus}.gguf",
        report="results/{model}/imatrix/{corpus}.json",
    output:
        csv="results/{model}/imatrix/{corpus}.tensors.csv",
        layers="results/{model}/imatrix/{corpus}.layers.csv",
        picture=report(
            "results/{model}/imatrix/{corpus}.png",
            caption="captions/imatrix.rst",
            category="imatrix",
            subcategory="{model}",
            labels={"of": "{corpus}", "what": "picture"},
        ),
    log:
        "results/logs/{model}/imatrix/{corpus}.statistics.log",
    benchmark:
        "results/benchmarks/{model}/imatrix/{corpus}.statistics.tsv"
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        settings={"code": code("imatrix_statistics.py")},
    shell:
        "python {input.script:q}"
        " --imatrix {input.imatrix:q}"
        " --report {input.report:q}"
        " --title '{wildcards.model}: imatrix of {wildcards.corpus}'"
        " --csv {output.csv:q}"
        " --layers {output.layers:q}"
        " --picture {output.picture:q}"
        " --log {log:q}"


rule imatrices:
    """Only the importance matrices, grown if the configuration says so."""
    input:
        expand(
            "results/{model}/imatrix/{corpus}.gguf",
            model=config["models"],
            corpus=CALIBRATED,
        ),
