"""Second moments of inputs, for the rounding that makes errors up.

Needs: common, costs, models, corpora.
"""

import math

from quern.cost import stages
from quern.sizes import Size

MOMENTS_BYTES = Size.parse_bytes(config["moments"]["memory"])
# Bytes of moments for each byte of an F16 model, at most (SmolLM2-135M; shapes of an 8B, a 70B).
MOMENTS_RATIO = 5
MOMENTS_PARTS = 1000  # jobs that share the moments of a model, at most; each runs the model


def moments_parts(model, size):
    """How many jobs share the moments of a model of so many bytes."""
    parts = math.ceil(MOMENTS_RATIO * size / MOMENTS_BYTES)
    least = math.ceil(MOMENTS_RATIO * size / MOMENTS_PARTS)
    said = f"{parts} jobs would share the moments of {model}; give at least {least} B"
    with sentences():
        require(parts <= MOMENTS_PARTS, ["moments", "memory"], said)
    return parts


def moments_files(model, pool):
    """All moments of a model's inputs on a pool."""
    parts = moments_parts(model, size_when_there(model))
    folder = f"results/{model}/moments/{pool}"
    return [f"{folder}/{part}of{parts}.h5" for part in range(1, parts + 1)]


def moments_text(wildcards):
    """The tokens of a pool."""
    return with_facts(wildcards.model, f"{wildcards.corpus}.pool")


def moments_options(wildcards):
    """The layers, and how many windows."""
    return {
        "n_ctx": config["imatrix"]["n_ctx"],
        "windows": config["moments"]["windows"],
        "part": wildcards.share.replace("of", "/"),
    }


def moments_cost(wildcards, gpu=0):
    """The model over all windows that there may be, and the moments of a part of its layers."""
    n_ctx, windows = config["imatrix"]["n_ctx"], config["moments"]["windows"]
    windows = windows_of(wildcards.model, wildcards.corpus, "pool", n_ctx, windows)
    parts = int(wildcards.share.partition("of")[2])
    return stages.moments(shape_of(wildcards.model), windows, parts, MOMENTS_BYTES, gpu)


rule moments:
    """Collect the second moments of the inputs of some layers."""
    input:
        unpack(moments_text),
        script=ancient(script_path("moments.py")),
        model=ancient(model_path),
        info="results/{model}/model.json",
    output:
        moments="results/{model}/moments/{corpus}/{share}.h5",
    log:
        "results/logs/{model}/moments/{corpus}/{share}.log",
    benchmark:
        "results/benchmarks/{model}/moments/{corpus}/{share}.tsv"
    conda:
        MODEL_ENVIRONMENT
    threads: 8
    resources:
        **asked(moments_cost),
        gpu=0,
    params:
        **decided("moments.py", moments_options),
    shell:
        "python {input.script:q} --log {log:q}"
        " --model {input.model:q}"
        " --info {input.info:q}"
        " --tokens {input.tokens:q}"
        " {params.options}"
        " --threads {threads} --gpus {resources.gpu}"
        " --output {output.moments:q}"
