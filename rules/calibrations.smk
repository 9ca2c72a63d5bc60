"""Calibrations that have tokens of their own: another order, some windows, or text at random.

Needs: common, costs, models, corpora, axes, quantize.
"""

from dataclasses import asdict

from quern.cost import stages
from quern.tokens.derivation import OF_DOCUMENTS

DERIVED = {
    name: calibration for name, calibration in CALIBRATIONS.items() if calibration.is_derived
}


def leads_back(name):
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
            require.known(["calibrations", name, "select", "recipe"], chosen.recipe, KNOWN)
    for name in config["calibrations"]:
        require(
            not leads_back(name),
            ["calibrations", name, "select", "recipe"],
            "this recipe's own imatrix needs the calibration; choose a recipe with another imatrix",
        )


wildcard_constraints:
    derived=one_of(DERIVED),


def derived_from(wildcards):
    """A pool's tokens; its text and documents where they are looked for, divergences to choose by."""
    calibration = DERIVED[wildcards.derived]
    folder, chosen = f"results/corpora/{calibration.corpus}", calibration.select
    by_document = calibration.order in OF_DOCUMENTS
    found = with_facts(wildcards.model, f"{calibration.corpus}.pool")
    if by_document or calibration.random == "words":
        found["text"] = ancient(f"{folder}/pool.txt")
    if by_document:
        found["documents"] = ancient(f"{folder}/documents.csv")
    if chosen and chosen.recipe:
        compared = f"results/{wildcards.model}/compare/{chosen.recipe}"
        found["comparison"] = f"{compared}/{chosen.evaluation}.csv"
    return found


def derivation(wildcards):
    """A calibration as options of the command."""
    calibration = DERIVED[wildcards.derived]
    chosen = calibration.select
    windows = EVALUATIONS[chosen.evaluation].windows if chosen else None
    return asdict(calibration.derivation(windows))


def derivation_threads(wildcards):
    """Threads: only the model's own samples need more than one."""
    return 8 if DERIVED[wildcards.derived].random == "samples" else 1


def derivation_cost(wildcards, gpu=0):
    """Tokens are put in order; only the model's own text takes the model."""
    tokens = calibrated_windows(wildcards.model, wildcards.derived).tokens
    if DERIVED[wildcards.derived].random == "samples":
        return stages.generated(shape_of(wildcards.model), tokens, gpu)
    return stages.light(4 * tokens)


rule calibration_tokens:
    """Put a pool's tokens in another order, choose some of its windows, or make text at random."""
    input:
        unpack(derived_from),
        script=ancient(script_path("calibration.py")),
        model=ancient(model_path),
        info="results/{model}/model.json",
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
        **asked(derivation_cost),
        gpu=0,
    params:
        **decided("calibration.py", derivation, ("text", "documents", "comparison")),
    shell:
        "python {input.script:q} --log {log:q}"
        " --model {input.model:q}"
        " --info {input.info:q}"
        " --tokens {input.tokens:q}"
        " {params.options}"
        " --threads {threads} --gpus {resources.gpu}"
        " --output {output.tokens:q}"
        " --facts {output.facts:q}"
