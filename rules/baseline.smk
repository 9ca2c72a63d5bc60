"""The baseline: what the unquantized model says at every scored position."""

BASELINE = {
    key: config["evaluation"][key]
    for key in ("n_ctx", "windows", "scored", "store", "logits_type", "embed_output")
}
with sentences():
    for i, name in enumerate(config["evaluation"]["corpora"]):
        require_corpus(["evaluation", "corpora", i], name)


rule baseline:
    """Store what the unquantized model says. An interrupted run goes on where it stopped."""
    input:
        script=ancient(script_path("baseline.py")),
        model=ancient(model_path),
        info="results/{model}/model.json",
        tokens=ancient("results/{model}/tokens/{corpus}.evaluation.h5"),
        facts="results/{model}/tokens/{corpus}.evaluation.json",
    output:
        store="results/{model}/baseline/{corpus}.h5",
        facts="results/{model}/baseline/{corpus}.json",
    log:
        "results/logs/{model}/baseline/{corpus}.log",
    benchmark:
        "results/benchmarks/{model}/baseline/{corpus}.tsv"
    conda:
        "../envs/quern.yaml"
    threads: 8
    resources:
        mem_mb=memory,
        runtime=minutes,
        gpu=0,
    params:
        settings={"code": code("baseline.py")} | BASELINE,
        options=flags(BASELINE),
    shell:
        "python {input.script:q}"
        " --model {input.model:q}"
        " --info {input.info:q}"
        " --tokens {input.tokens:q}"
        " {params.options}"
        " --threads {threads}"
        " --gpus {resources.gpu}"
        " --tuning results/{wildcards.model}/tuning"
        " --output {output.store:q}"
        " --facts {output.facts:q}"
        " --log {log:q}"


rule baselines:
    """Only the baseline stores."""
    input:
        expand(
            "results/{model}/baseline/{corpus}.h5",
            model=config["models"],
            corpus=config["evaluation"]["corpora"],
        ),
