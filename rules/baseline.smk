"""The baseline: what the unquantized model says at every scored position."""

with sentences():
    for i, name in enumerate(config["evaluation"]["corpora"]):
        require_corpus(["evaluation", "corpora", i], name)


def evaluated_tokens(
    wildcards,
):
    """The tokens of an evaluation."""
    evaluation = EVALUATIONS[wildcards.evaluation]
    return f"results/{wildcards.model}/tokens/{evaluation.corpus}.{evaluation.part}.h5"


def evaluated_facts(
    wildcards,
):
    """What is known of them."""
    return evaluated_tokens(wildcards).removesuffix("h5") + "json"


def baseline_settings(
    wildcards,
):
    """What a baseline depends on besides its inputs."""
    return {"code": code("baseline.py")} | EVALUATIONS[wildcards.evaluation].options


def baseline_options(
    wildcards,
):
    """An evaluation as options of the command."""
    return flags(EVALUATIONS[wildcards.evaluation].options)


def baseline_cost(
    wildcards,
    gpu=0,
):
    """The model over the windows of an evaluation."""
    windows = evaluated_windows(wildcards.model, wildcards.evaluation)
    store = EVALUATIONS[wildcards.evaluation].store
    return stages.baseline(shape_of(wildcards.model), windows, store, gpu)


def baseline_of(
    wildcards,
):
    """The baseline that an evaluation is held against."""
    return f"results/{wildcards.model}/baseline/{BASELINES[wildcards.evaluation]}.h5"


def baseline_facts(
    wildcards,
):
    """What is known of it."""
    return baseline_of(wildcards).removesuffix("h5") + "json"


rule baseline:
    """Store what the unquantized model says. An interrupted run goes on where it stopped."""
    input:
        script=ancient(script_path("baseline.py")),
        model=ancient(model_path),
        info="results/{model}/model.json",
        tokens=ancient(evaluated_tokens),
        facts=evaluated_facts,
    output:
        store="results/{model}/baseline/{evaluation}.h5",
        facts="results/{model}/baseline/{evaluation}.json",
    log:
        "results/logs/{model}/baseline/{evaluation}.log",
    benchmark:
        "results/benchmarks/{model}/baseline/{evaluation}.tsv"
    conda:
        MODEL_ENVIRONMENT
    threads: 8
    resources:
        mem_mb=memory(baseline_cost),
        runtime=minutes(baseline_cost),
        seconds=seconds(baseline_cost),
        disk_mb=disk(baseline_cost),
        gpu=0,
    params:
        settings=baseline_settings,
        options=baseline_options,
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
            "results/{model}/baseline/{baseline}.h5",
            model=config["models"],
            baseline={BASELINES[name] for name in EVALUATED},
        ),
