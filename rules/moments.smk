"""Second moments of inputs, for the rounding that makes errors up.

Needs: common, costs, models, corpora.
"""

import math

from quern.cost import stages
from quern.sizes import Size

with sentences():
    MOMENTS_BYTES = Size.parse(config["moments"]["memory"]).bytes
    require(MOMENTS_BYTES > 0, ["moments", "memory"], "it is no size in bytes; write 16GB")
# Bytes of moments for each byte of an F16 model, at most (SmolLM2-135M; shapes of an 8B, a 70B).
MOMENTS_RATIO = 5


def moments_files(model, pool):
    """All moments of a model's inputs on a pool."""
    parts = math.ceil(MOMENTS_RATIO * size_when_there(model) / MOMENTS_BYTES)
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
