"""Importance matrices: shards of each calibration pool, merged."""

IMATRIX = config["imatrix"]
SHARD = {"code": code("imatrix_shard.py")} | {
    key: IMATRIX[key] for key in ("n_ctx", "output_weight")
}


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
        settings=SHARD,
        windows=shard_windows,
        output="--output-weight" if SHARD["output_weight"] else "",
    shell:
        "python {input.script:q}"
        " --model {input.model:q}"
        " --info {input.info:q}"
        " --tokens {input.tokens:q}"
        " --n-ctx {params.settings[n_ctx]}"
        " {params.windows}"
        " {params.output}"
        " --threads {threads}"
        " --gpus {resources.gpu}"
        " --output {output.shard:q}"
        " --log {log:q}"


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


rule imatrix_of_corpus:
    """The imatrix that recipes use: the grown one, or all that the configuration asks for."""
    input:
        imatrix=imatrix_to_use,
        report=report_to_use,
    output:
        imatrix="results/{model}/imatrix/{corpus}.gguf",
        report="results/{model}/imatrix/{corpus}.json",
    log:
        "results/logs/{model}/imatrix/{corpus}.log",
    benchmark:
        "results/benchmarks/{model}/imatrix/{corpus}.tsv"
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "(cp {input.imatrix:q} {output.imatrix:q}.part"
        " && cp {input.report:q} {output.report:q}"
        " && mv {output.imatrix:q}.part {output.imatrix:q}) > {log:q} 2>&1"


rule imatrix_statistics:
    """Describe an imatrix, tensor by tensor and layer by layer."""
    input:
        script=ancient(script_path("imatrix_statistics.py")),
        imatrix="results/{model}/imatrix/{corpus}.gguf",
        report="results/{model}/imatrix/{corpus}.json",
    output:
        csv="results/{model}/imatrix/{corpus}.tensors.csv",
        layers="results/{model}/imatrix/{corpus}.layers.csv",
        picture="results/{model}/imatrix/{corpus}.png",
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
