"""Studies: what several comparisons say of one question, see `scripts/quern/studies`."""

STUDIED = expand(
    "results/{model}/studies/{study}/{file}",
    model=config["models"],
    study=PLANS,
    file=["index.md", "table.csv", "picture.png"],
)
READ += STUDIED


wildcard_constraints:
    study=one_of(PLANS),


def study_comparisons(
    wildcards,
):
    """The comparisons of a study, in the order of its cells."""
    folder = f"results/{wildcards.model}/compare"
    return [f"{folder}/{c.recipe}/{c.evaluation}.json" for c in PLANS[wildcards.study].cells]


def study_positions(
    wildcards,
):
    """Their figures per position."""
    return [path.removesuffix("json") + "h5" for path in study_comparisons(wildcards)]


def study_imatrices(
    wildcards,
):
    """What is known of its imatrices."""
    folder = f"results/{wildcards.model}/imatrix"
    return [f"{folder}/{name}.json" for name in PLANS[wildcards.study].calibrations]


def study_tokens(
    wildcards,
):
    """The tokens of the calibrations that a study describes."""
    texts = PLANS[wildcards.study].texts.values()
    return [f"{calibrated_stem(wildcards.model, name)}.h5" for name in texts]


def study_facts(
    wildcards,
):
    """What is known of them."""
    return [path.removesuffix("h5") + "json" for path in study_tokens(wildcards)]


def study_description(
    study,
):
    """A study as its command takes it, without the files."""
    plan = PLANS[study]
    sizes = {label: CALIBRATIONS[name] for label, name in plan.texts.items()}
    return {
        "settings": plan.settings,
        "cells": [{"recipe": cell.recipe, "labels": cell.labels} for cell in plan.cells],
        "texts": {label: {"n_ctx": c.n_ctx, "windows": c.windows} for label, c in sizes.items()},
    }


def study_settings(
    wildcards,
):
    """What a study's page depends on besides its inputs."""
    return {"code": code("study.py")} | study_description(wildcards.study)


def study_option(
    wildcards,
    input,
):
    """A study as its command takes it."""
    found = study_description(wildcards.study)
    for cell, compare, positions in zip(
        found["cells"], input.compare, input.positions, strict=True
    ):
        cell |= {"compare": compare, "positions": positions}
    for text, tokens in zip(found["texts"].values(), input.tokens, strict=True):
        text["tokens"] = tokens
    return json.dumps(found)


rule study:
    """A study's page, rows and picture."""
    input:
        script=ancient(script_path("study.py")),
        info="results/{model}/model.json",
        compare=study_comparisons,
        positions=ancient(study_positions),
        imatrices=study_imatrices,
        tokens=ancient(study_tokens),
        facts=study_facts,
    output:
        markdown="results/{model}/studies/{study}/index.md",
        csv="results/{model}/studies/{study}/table.csv",
        picture=report(
            "results/{model}/studies/{study}/picture.png",
            caption="captions/studies.rst",
            category="studies",
            subcategory="{model}",
            labels={"of": "{study}", "what": "picture"},
        ),
    log:
        "results/logs/{model}/studies/{study}.log",
    benchmark:
        "results/benchmarks/{model}/studies/{study}.tsv"
    localrule: True
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        settings=study_settings,
        study=study_option,
    shell:
        "python {input.script:q}"
        " --study {params.study:q}"
        " --imatrices {input.imatrices:q}"
        " --info {input.info:q}"
        " --title '{wildcards.model}: {wildcards.study}'"
        " --markdown {output.markdown:q}"
        " --csv {output.csv:q}"
        " --picture {output.picture:q}"
        " --log {log:q}"


rule studies:
    """Only the studies."""
    input:
        STUDIED,
