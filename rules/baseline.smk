"""The baseline: what the unquantized model says at every scored position.

Needs: common, costs, models, corpora, axes.
"""

from quern.cost import stages

with sentences():
    for i, name in enumerate(config["evaluation"]["corpora"]):
        require.known(["evaluation", "corpora", i], name, config["corpora"])


def evaluated_text(wildcards):
    """The tokens of an evaluation."""
    evaluation = EVALUATIONS[wildcards.evaluation]
    return with_facts(wildcards.model, f"{evaluation.corpus}.{evaluation.part}")


def evaluation_options(wildcards):
    """An evaluation as options of the command."""
    return EVALUATIONS[wildcards.evaluation].options


def baseline_cost(wildcards, gpu=0):
    """The model over the windows of an evaluation."""
    windows = evaluated_windows(wildcards.model, wildcards.evaluation)
    store = EVALUATIONS[wildcards.evaluation].store
    return stages.baseline(shape_of(wildcards.model), windows, store, gpu)


def baseline_of(wildcards):
    """The baseline that an evaluation is held against, and what is known of it."""
    stem = f"results/{wildcards.model}/baseline/{BASELINES[wildcards.evaluation]}"
    return {"baseline": ancient(f"{stem}.h5"), "facts": f"{stem}.json"}


rule baseline:
    """Store what the unquantized model says. An interrupted run goes on where it stopped."""
    input:
        unpack(evaluated_text),
        script=ancient(script_path("baseline.py")),
        model=ancient(model_path),
        info="results/{model}/model.json",
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
        **asked(baseline_cost),
        gpu=0,
    params:
        **decided("baseline.py", evaluation_options),
    shell:
        "python {input.script:q} --log {log:q}"
        " --model {input.model:q}"
        " --info {input.info:q}"
        " --tokens {input.tokens:q}"
        " {params.options}"
        " --threads {threads} --gpus {resources.gpu}"
        " --tuning results/{wildcards.model}/tuning"
        " --output {output.store:q}"
        " --facts {output.facts:q}"


rule baselines:
    """Only the baseline stores."""
    input:
        for_models(
            "results/{model}/baseline/{baseline}.h5",
            baseline={BASELINES[name] for name in EVALUATED},
        ),
