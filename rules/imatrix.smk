"""Importance matrices: shards of each calibration, merged."""

from functools import partial
from itertools import takewhile

from quern.growth.ladder import ladder
from quern.growth.ladder import shards as cut_into_shards

# Calibrations whose imatrices the recipes use.
CALIBRATED = sorted({recipe.imatrix for recipe in RECIPES.values()} & CALIBRATIONS.keys())
PARTS = 16  # jobs that share a whole pool, whose length is not known before they run
WORTH = 16  # windows that a job is worth, if each byte of the sources were a token
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
    "results/{model}/imatrix/{calibration}.png",
    model=config["models"],
    calibration=CALIBRATED,
)


wildcard_constraints:
    shard=r"\d+-\d+|\d+of\d+",
    windows=r"\d+|all|none",


def calibrated_stem(
    model,
    name,
):
    """The tokens of a calibration without their ending: its own, or its corpus's pool."""
    calibration = CALIBRATIONS[name]
    own = f"{name}.calibration" if calibration.is_derived else f"{calibration.corpus}.pool"
    return f"results/{model}/tokens/{own}"


def calibrated_tokens(
    wildcards,
):
    """The tokens of a calibration."""
    return f"{calibrated_stem(wildcards.model, wildcards.calibration)}.h5"


def calibrated_facts(
    wildcards,
):
    """What is known of them."""
    return f"{calibrated_stem(wildcards.model, wildcards.calibration)}.json"


def shard_reading(
    wildcards,
):
    """How a shard's windows are read."""
    n_ctx = CALIBRATIONS[wildcards.calibration].n_ctx
    return {"n_ctx": n_ctx, "output_weight": config["imatrix"]["output_weight"]}


def shard_settings(
    wildcards,
):
    """What a shard depends on besides its inputs and its name."""
    return {"code": code("imatrix_shard.py")} | shard_reading(wildcards)


def shard_options(
    wildcards,
):
    """A shard's windows, from one to another or as its part of the pool, and how they are read."""
    if "of" in wildcards.shard:
        own = {"part": wildcards.shard.replace("of", "/")}
    else:
        own = dict(zip(("from", "to"), wildcards.shard.split("-"), strict=True))
    return flags(shard_reading(wildcards) | own)


def shard_cost(
    wildcards,
    gpu=0,
):
    """The model over a shard's windows."""
    n_ctx = CALIBRATIONS[wildcards.calibration].n_ctx
    if "of" in wildcards.shard:
        count = calibrated_windows(wildcards.model, wildcards.calibration).count
        count /= int(wildcards.shard.partition("of")[2])
    else:
        first, last = map(int, wildcards.shard.split("-"))
        count = last - first
    return stages.imatrix_shard(shape_of(wildcards.model), Decoded(count, n_ctx), gpu)


rule imatrix_shard:
    """Collect sums of squared inputs from some windows of a calibration."""
    input:
        script=ancient(script_path("imatrix_shard.py")),
        model=ancient(model_path),
        info="results/{model}/model.json",
        tokens=ancient(calibrated_tokens),
        facts=calibrated_facts,
    output:
        shard="results/{model}/imatrix/{calibration}/shards/{shard}.h5",
    log:
        "results/logs/{model}/imatrix/{calibration}/{shard}.log",
    benchmark:
        "results/benchmarks/{model}/imatrix/{calibration}/{shard}.tsv"
    conda:
        MODEL_ENVIRONMENT
    threads: 8
    resources:
        mem_mb=memory(shard_cost),
        runtime=minutes(shard_cost),
        seconds=seconds(shard_cost),
        disk_mb=disk(shard_cost),
        gpu=0,
    params:
        settings=shard_settings,
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


def grows(
    calibration,
):
    """Whether an imatrix grows: that of a corpus, where the configuration asks for it."""
    return bool(GROWTH) and calibration in config["corpora"]


def parts_of(
    calibration,
):
    """Jobs that share all windows: fewer where the sources are short, one for what is made."""
    if calibration.is_derived:
        return 1
    if any(source.kind in sources.FETCHED for source in SOURCES[calibration.corpus]):
        return PARTS
    return max(1, min(PARTS, source_bytes(calibration.corpus) // (WORTH * calibration.n_ctx)))


def shards_of(
    wildcards,
):
    """The shards of an imatrix. They never reach over a rung, so that every step shares them."""
    name = wildcards.calibration
    folder = f"results/{wildcards.model}/imatrix/{name}/shards"
    if wildcards.windows == "all":
        parts = parts_of(CALIBRATIONS[name])
        return [f"{folder}/{part}of{parts}.h5" for part in range(1, parts + 1)]
    windows = int(wildcards.windows)
    below = takewhile(windows.__gt__, rungs()) if grows(name) else []
    cuts = cut_into_shards([*below, windows], config["imatrix"]["shard_windows"])
    return [f"{folder}/{first}-{last}.h5" for first, last in cuts]


def windows_asked(
    wildcards,
):
    """How many windows there were to be; not said where it is all of them."""
    return flags({"windows": None if wildcards.windows == "all" else wildcards.windows})


def dataset(
    wildcards,
):
    """What the imatrix records as its origin."""
    calibration = CALIBRATIONS[wildcards.calibration]
    return wildcards.calibration if calibration.is_derived else f"{calibration.corpus}/pool"


def merge_cost(
    wildcards,
    gpu=0,
):
    """All shards added up."""
    return stages.imatrix(shape_of(wildcards.model), len(shards_of(wildcards)))


rule imatrix:
    """Merge shards: the first windows of a calibration, or all of it."""
    input:
        script=ancient(script_path("imatrix.py")),
        info="results/{model}/model.json",
        shards=shards_of,
    output:
        imatrix="results/{model}/imatrix/{calibration}/{windows}.gguf",
        report="results/{model}/imatrix/{calibration}/{windows}.json",
    log:
        "results/logs/{model}/imatrix/{calibration}/{windows}.log",
    benchmark:
        "results/benchmarks/{model}/imatrix/{calibration}/{windows}.tsv"
    localrule: True
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        mem_mb=memory(merge_cost),
        runtime=minutes(merge_cost),
        seconds=seconds(merge_cost),
        disk_mb=disk(merge_cost),
    params:
        settings={"code": code("imatrix.py")},
        windows=windows_asked,
        dataset=dataset,
    shell:
        "python {input.script:q}"
        " --shards {input.shards:q}"
        " --info {input.info:q}"
        " {params.windows}"
        " --dataset {params.dataset:q}"
        " --output {output.imatrix:q}"
        " --report {output.report:q}"
        " --log {log:q}"


rule imatrix_statistics:
    """Describe an imatrix, tensor by tensor and layer by layer."""
    input:
        script=ancient(script_path("imatrix_statistics.py")),
        imatrix="results/{model}/imatrix/{calibration}.gguf",
        report="results/{model}/imatrix/{calibration}.json",
    output:
        csv="results/{model}/imatrix/{calibration}.tensors.csv",
        layers="results/{model}/imatrix/{calibration}.layers.csv",
        picture=report(
            "results/{model}/imatrix/{calibration}.png",
            caption="captions/imatrix.rst",
            category="imatrix",
            subcategory="{model}",
            labels={"of": "{calibration}", "what": "picture"},
        ),
    log:
        "results/logs/{model}/imatrix/{calibration}.statistics.log",
    benchmark:
        "results/benchmarks/{model}/imatrix/{calibration}.statistics.tsv"
    localrule: True
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
        " --title '{wildcards.model}: imatrix of {wildcards.calibration}'"
        " --csv {output.csv:q}"
        " --layers {output.layers:q}"
        " --picture {output.picture:q}"
        " --log {log:q}"


rule imatrices:
    """Only the importance matrices, grown if the configuration says so."""
    input:
        expand(
            "results/{model}/imatrix/{calibration}.gguf",
            model=config["models"],
            calibration=CALIBRATED,
        ),
