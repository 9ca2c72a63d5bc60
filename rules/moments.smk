"""Second moments of inputs, for the rounding that makes errors up."""

from quern.sizes import Size

with sentences():
    MOMENTS_BYTES = Size.parse(config["moments"]["memory"]).bytes
    require(MOMENTS_BYTES > 0, ["moments", "memory"], "it is no size in bytes; write 16GB")
# Bytes of moments for each byte of an F16 model, at most (SmolLM2-135M; shapes of an 8B, a 70B).
MOMENTS_RATIO = 5


def moments_files(
    model,
    pool,
):
    """All moments of a model's inputs on a pool."""
    parts = math.ceil(MOMENTS_RATIO * size_when_there(model) / MOMENTS_BYTES)
    folder = f"results/{model}/moments/{pool}"
    return [f"{folder}/{part}of{parts}.h5" for part in range(1, parts + 1)]


def moments_options(
    wildcards,
):
    """The layers, and how many windows."""
    return flags(
        {
            "n_ctx": config["imatrix"]["n_ctx"],
            "windows": config["moments"]["windows"],
            "part": wildcards.share.replace("of", "/"),
        }
    )


def moments_settings(
    wildcards,
):
    """What moments depend on besides their inputs."""
    return {"code": code("moments.py"), "options": moments_options(wildcards)}


def moments_cost(
    wildcards,
    gpu=0,
):
    """The model over all windows that there may be, and the moments of a part of its layers."""
    windows = windows_of(
        wildcards.model,
        wildcards.corpus,
        "pool",
        config["imatrix"]["n_ctx"],
        config["moments"]["windows"],
    )
    parts = int(wildcards.share.partition("of")[2])
    return stages.moments(shape_of(wildcards.model), windows, parts, MOMENTS_BYTES, gpu)


rule moments:
    """Collect the second moments of the inputs of some layers."""
    input:
        script=ancient(script_path("moments.py")),
        model=ancient(model_path),
        info="results/{model}/model.json",
        tokens=ancient("results/{model}/tokens/{corpus}.pool.h5"),
        facts="results/{model}/tokens/{corpus}.pool.json",
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
        mem_mb=memory(moments_cost),
        runtime=minutes(moments_cost),
        seconds=seconds(moments_cost),
        disk_mb=disk(moments_cost),
        gpu=0,
    params:
        settings=moments_settings,
        options=moments_options,
    shell:
        "python {input.script:q}"
        " --model {input.model:q}"
        " --info {input.info:q}"
        " --tokens {input.tokens:q}"
        " {params.options}"
        " --threads {threads}"
        " --gpus {resources.gpu}"
        " --output {output.moments:q}"
        " --log {log:q}"
