"""Importance matrices: shards of each calibration, merged.

Needs: common, costs, models, corpora, axes, quantize.
"""

from functools import partial
from itertools import takewhile

from quern.corpus import sources
from quern.cost import stages
from quern.cost.stages import Decoded
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
READ += for_models("results/{model}/imatrix/{calibration}.png", calibration=CALIBRATED)


wildcard_constraints:
    shard=r"\d+-\d+|\d+of\d+",
    windows=r"\d+|all|none",


def calibrated_name(name):
    """The text of a calibration: its own, or its corpus's pool."""
    calibration = CALIBRATIONS[name]
    return f"{name}.calibration" if calibration.is_derived else f"{calibration.corpus}.pool"


def calibrated_text(wildcards):
    """The tokens of a calibration."""
    return with_facts(wildcards.model, calibrated_name(wildcards.calibration))


def shard_options(wildcards):
    """A shard's windows, from one to another or as its part of the pool, and how they are read."""
    if "of" in wildcards.shard:
        own = {"part": wildcards.shard.replace("of", "/")}
    else:
        own = dict(zip(("from", "to"), wildcards.shard.split("-"), strict=True))
    n_ctx = CALIBRATIONS[wildcards.calibration].n_ctx
    return own | {"n_ctx": n_ctx, "output_weight": config["imatrix"]["output_weight"]}


def shard_cost(wildcards, gpu=0):
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
        unpack(calibrated_text),
        script=ancient(script_path("imatrix_shard.py")),
        model=ancient(model_path),
        info="results/{model}/model.json",
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
        **asked(shard_cost),
        gpu=0,
    params:
        **decided("imatrix_shard.py", shard_options),
    shell:
        "python {input.script:q} --log {log:q}"
        " --model {input.model:q}"
        " --info {input.info:q}"
        " --tokens {input.tokens:q}"
        " {params.options}"
        " --threads {threads} --gpus {resources.gpu}"
        " --tuning results/{wildcards.model}/tuning"
        " --output {output.shard:q}"


def grows(calibration):
    """Whether an imatrix grows: that of a corpus, where the configuration asks for it."""
    return bool(GROWTH) and calibration in config["corpora"]


def parts_of(calibration):
    """Jobs that share all windows: fewer where the sources are short, one for what is made."""
    if calibration.is_derived:
        return 1
    if any(source.kind in sources.FETCHED for source in SOURCES[calibration.corpus]):
        return PARTS
    return max(1, min(PARTS, source_bytes(calibration.corpus) // (WORTH * calibration.n_ctx)))


def shards_of(wildcards):
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


def merge_options(wildcards):
    """What the imatrix says of its origin, and how many windows there were to be, if not all."""
    calibration = CALIBRATIONS[wildcards.calibration]
    dataset = wildcards.calibration if calibration.is_derived else f"{calibration.corpus}/pool"
    windows = None if wildcards.windows == "all" else wildcards.windows
    return {"windows": windows, "dataset": dataset}


def merge_cost(wildcards, gpu=0):
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
        **asked(merge_cost),
    params:
        **decided("imatrix.py", merge_options),
    shell:
        "python {input.script:q} --log {log:q}"
        " --shards {input.shards:q}"
        " --info {input.info:q}"
        " {params.options}"
        " --output {output.imatrix:q}"
        " --report {output.report:q}"


rule imatrix_statistics:
    """Describe an imatrix, tensor by tensor and layer by layer."""
    input:
        script=ancient(script_path("imatrix_statistics.py")),
        imatrix="results/{model}/imatrix/{calibration}.gguf",
        report="results/{model}/imatrix/{calibration}.json",
    output:
        csv="results/{model}/imatrix/{calibration}.tensors.csv",
        layers="results/{model}/imatrix/{calibration}.layers.csv",
        picture=shown("results/{model}/imatrix/{calibration}.png", "imatrix", "{calibration}"),
    log:
        "results/logs/{model}/imatrix/{calibration}.statistics.log",
    benchmark:
        "results/benchmarks/{model}/imatrix/{calibration}.statistics.tsv"
    localrule: True
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        **LIGHT,
    params:
        **decided("imatrix_statistics.py"),
    shell:
        "python {input.script:q} --log {log:q}"
        " --imatrix {input.imatrix:q}"
        " --report {input.report:q}"
        " --title '{wildcards.model}: imatrix of {wildcards.calibration}'"
        " --csv {output.csv:q}"
        " --layers {output.layers:q}"
        " --picture {output.picture:q}"


rule imatrices:
    """Only the importance matrices, grown if the configuration says so."""
    input:
        for_models("results/{model}/imatrix/{calibration}.gguf", calibration=CALIBRATED),
