"""Calibrations that have tokens of their own: another order, some windows, or text at random."""

from dataclasses import asdict

MADE = {name: calibration for name, calibration in CALIBRATIONS.items() if calibration.made}


def leads_back(
    name,
):
    """Whether a calibration is selected by a recipe that is quantized with it in the end."""
    passed = []
    while name in MADE and MADE[name].select and MADE[name].select.recipe:
        if name in passed:
            return True
        passed.append(name)
        name = KNOWN[MADE[name].select.recipe].imatrix
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
    made=one_of(MADE),


def made_from(
    wildcards,
    ending,
):
    """A file of the pool that a calibration is made from."""
    return f"results/{wildcards.model}/tokens/{MADE[wildcards.made].corpus}.pool.{ending}"


def made_from_tokens(
    wildcards,
):
    """The pool's tokens."""
    return made_from(wildcards, "h5")


def made_from_facts(
    wildcards,
):
    """What is known of them."""
    return made_from(wildcards, "json")


def made_from_text(
    wildcards,
):
    """The pool's text, where words or documents are looked for in it."""
    calibration = MADE[wildcards.made]
    needed = calibration.random == "words" or calibration.order in OF_DOCUMENTS
    return [f"results/corpora/{calibration.corpus}/pool.txt"] if needed else []


def made_from_documents(
    wildcards,
):
    """The documents of the pool, where they are put in order."""
    calibration = MADE[wildcards.made]
    needed = calibration.order in OF_DOCUMENTS
    return [f"results/corpora/{calibration.corpus}/documents.csv"] if needed else []


def made_from_comparison(
    wildcards,
):
    """The divergence of each window, where windows are chosen by it."""
    chosen = MADE[wildcards.made].select
    if not (chosen and chosen.recipe):
        return []
    return [f"results/{wildcards.model}/compare/{chosen.recipe}/{chosen.evaluation}.csv"]


def making(
    wildcards,
):
    """A calibration as the command takes it."""
    calibration = MADE[wildcards.made]
    chosen = calibration.select
    return asdict(calibration.making(EVALUATIONS[chosen.evaluation].windows if chosen else None))


def making_settings(
    wildcards,
):
    """What the tokens depend on besides their inputs."""
    return {"code": code("calibration.py")} | making(wildcards)


def making_options(
    wildcards,
    input,
):
    """The same as options of the command."""
    found = {name: input.get(name) for name in ("text", "documents", "comparison")}
    return flags(making(wildcards) | {name: path for name, path in found.items() if path})


def making_threads(
    wildcards,
):
    """Threads: only the model's own samples need more than one."""
    return 8 if MADE[wildcards.made].random == "samples" else 1


def making_cost(
    wildcards,
    gpu=0,
):
    """Tokens are put in order; only the model's own text takes the model."""
    tokens = calibrated_windows(wildcards.model, wildcards.made).tokens
    if MADE[wildcards.made].random == "samples":
        return stages.generated(shape_of(wildcards.model), tokens, gpu)
    return stages.light(4 * tokens)


rule calibration_tokens:
    """Put a pool's tokens in another order, choose some of its windows, or make text at random."""
    input:
        script=ancient(script_path("calibration.py")),
        model=ancient(model_path),
        info="results/{model}/model.json",
        tokens=ancient(made_from_tokens),
        facts=made_from_facts,
        text=ancient(made_from_text),
        documents=ancient(made_from_documents),
        comparison=made_from_comparison,
    output:
        tokens="results/{model}/tokens/{made}.calibration.h5",
        facts="results/{model}/tokens/{made}.calibration.json",
    log:
        "results/logs/{model}/tokens/{made}.calibration.log",
    benchmark:
        "results/benchmarks/{model}/tokens/{made}.calibration.tsv"
    conda:
        MODEL_ENVIRONMENT
    threads: making_threads
    resources:
        mem_mb=memory(making_cost),
        runtime=minutes(making_cost),
        seconds=seconds(making_cost),
        disk_mb=disk(making_cost),
        gpu=0,
    params:
        settings=making_settings,
        options=making_options,
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
