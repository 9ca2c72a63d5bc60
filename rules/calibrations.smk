"""Calibrations that have tokens of their own: another order, some windows, or text at random."""

from dataclasses import asdict

DERIVED = {
    name: calibration for name, calibration in CALIBRATIONS.items() if calibration.is_derived
}


def leads_back(
    name,
):
    """Whether a calibration is selected by a recipe that is quantized with it in the end."""
    passed = []
    while name in DERIVED and DERIVED[name].select and DERIVED[name].select.recipe:
        if name in passed:
            return True
        passed.append(name)
        name = KNOWN[DERIVED[name].select.recipe].imatrix
    return False


with sentences():
    for name in config["calibrations"]:
        chosen = CALIBRATIONS[name].select
        if chosen and chosen.recipe:
            keys = ["calibrations", name, "select", "recipe"]
            require(chosen.recipe in KNOWN, keys, configuration.unknown(chosen.recipe, KNOWN))
    for name in config["calibrations"]:
        require(
            not leads_back(name),
            ["calibrations", name, "select", "recipe"],
            "this recipe's own imatrix needs the calibration; choose a recipe with another imatrix",
        )


wildcard_constraints:
    derived=one_of(DERIVED),


def derived_from(
    wildcards,
    ending,
):
    """A file of the pool that a calibration is derived from."""
    return f"results/{wildcards.model}/tokens/{DERIVED[wildcards.derived].corpus}.pool.{ending}"


def derived_from_tokens(
    wildcards,
):
    """The pool's tokens."""
    return derived_from(wildcards, "h5")


def derived_from_facts(
    wildcards,
):
    """What is known of them."""
    return derived_from(wildcards, "json")


def derived_from_text(
    wildcards,
):
    """The pool's text, where words or documents are looked for in it."""
    calibration = DERIVED[wildcards.derived]
    needed = calibration.random == "words" or calibration.order in OF_DOCUMENTS
    return [f"results/corpora/{calibration.corpus}/pool.txt"] if needed else []


def derived_from_documents(
    wildcards,
):
    """The documents of the pool, where they are put in order."""
    calibration = DERIVED[wildcards.derived]
    needed = calibration.order in OF_DOCUMENTS
    return [f"results/corpora/{calibration.corpus}/documents.csv"] if needed else []


def derived_from_comparison(
    wildcards,
):
    """The divergence of each window, where windows are chosen by it."""
    chosen = DERIVED[wildcards.derived].select
    if not (chosen and chosen.recipe):
        return []
    return [f"results/{wildcards.model}/compare/{chosen.recipe}/{chosen.evaluation}.csv"]


def derivation(
    wildcards,
):
    """A calibration as the command takes it."""
    calibration = DERIVED[wildcards.derived]
    chosen = calibration.select
    return asdict(
        calibration.derivation(EVALUATIONS[chosen.evaluation].windows if chosen else None)
    )


def derivation_settings(
    wildcards,
):
    """What the tokens depend on besides their inputs."""
    return {"code": code("calibration.py")} | derivation(wildcards)


def derivation_options(
    wildcards,
    input,
):
    """The same as options of the command."""
    found = {name: input.get(name) for name in ("text", "documents", "comparison")}
    return flags(derivation(wildcards) | {name: path for name, path in found.items() if path})


def derivation_threads(
    wildcards,
):
    """Threads: only the model's own samples need more than one."""
    return 8 if DERIVED[wildcards.derived].random == "samples" else 1


def derivation_cost(
    wildcards,
    gpu=0,
):
    """Tokens are put in order; only the model's own text takes the model."""
    tokens = calibrated_windows(wildcards.model, wildcards.derived).tokens
    if DERIVED[wildcards.derived].random == "samples":
        return stages.generated(shape_of(wildcards.model), tokens, gpu)
    return stages.light(4 * tokens)


rule calibration_tokens:
    """Put a pool's tokens in another order, choose some of its windows, or make text at random."""
    input:
        script=ancient(script_path("calibration.py")),
        model=ancient(model_path),
        info="results/{model}/model.json",
        tokens=ancient(derived_from_tokens),
        facts=derived_from_facts,
        text=ancient(derived_from_text),
        documents=ancient(derived_from_documents),
        comparison=derived_from_comparison,
    output:
        tokens="results/{model}/tokens/{derived}.calibration.h5",
        facts="results/{model}/tokens/{derived}.calibration.json",
    log:
        "results/logs/{model}/tokens/{derived}.calibration.log",
    benchmark:
        "results/benchmarks/{model}/tokens/{derived}.calibration.tsv"
    conda:
        MODEL_ENVIRONMENT
    threads: derivation_threads
    resources:
        mem_mb=memory(derivation_cost),
        runtime=minutes(derivation_cost),
        seconds=seconds(derivation_cost),
        disk_mb=disk(derivation_cost),
        gpu=0,
    params:
        settings=derivation_settings,
        options=derivation_options,
    shell:
        "python {input.script:q}"
        " --model {input.model:q}"
        " --info {input.info:q}"
        " --tokens {input.tokens:q}"
        " {params.options}"
        " --threads {threads}"
        " --gpus {resources.gpu}"
        " --output {output.tokens:q}"
        " --facts {output.facts:q}"
        " --log {log:q}"
