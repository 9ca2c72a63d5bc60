"""The importance matrix of each model and calibration pool."""

IMATRIX = {"code": code("imatrix.py")} | config["imatrix"]


rule imatrix:
    """Collect an importance matrix from a corpus's calibration pool."""
    input:
        script=ancient(script_path("imatrix.py")),
        model=ancient(model_path),
        info="results/{model}/model.json",
        tokens=ancient("results/{model}/tokens/{corpus}.pool.h5"),
        facts="results/{model}/tokens/{corpus}.pool.json",
    output:
        imatrix="results/{model}/imatrix/{corpus}.gguf",
    log:
        "results/logs/{model}/imatrix/{corpus}.log",
    benchmark:
        "results/benchmarks/{model}/imatrix/{corpus}.tsv"
    conda:
        "../envs/quern.yaml"
    threads: 8
    resources:
        mem_mb=memory,
        runtime=minutes,
        gpu=0,
    params:
        settings=IMATRIX,
        windows=f"--windows {IMATRIX['windows']}" if IMATRIX["windows"] else "",
    shell:
        "python {input.script:q}"
        " --model {input.model:q}"
        " --info {input.info:q}"
        " --tokens {input.tokens:q}"
        " --n-ctx {params.settings[n_ctx]}"
        " {params.windows}"
        " --dataset {wildcards.corpus}/pool"
        " --threads {threads}"
        " --gpus {resources.gpu}"
        " --output {output.imatrix:q}"
        " --log {log:q}"
