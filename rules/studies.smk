"""Studies: what several comparisons say of one question, see `scripts/quern/studies`.

Needs: common, costs, corpora, axes, imatrix.
"""

import json

STUDIED = for_models(
    "results/{model}/studies/{study}/{file}",
    study=PLANS,
    file=["index.md", "table.csv", "picture.png"],
)
READ += STUDIED


wildcard_constraints:
    study=one_of(PLANS),


def study_files(wildcards):
    """The comparisons of a study, in the order of its cells; its imatrices; the texts it describes."""
    folder, plan = f"results/{wildcards.model}", PLANS[wildcards.study]
    stems = [f"{folder}/compare/{c.recipe}/{c.evaluation}" for c in plan.cells]
    texts = [with_facts(wildcards.model, calibrated_name(name)) for name in plan.texts.values()]
    return {
        "cells": [f"{folder}/quantize/{cell.recipe}.json" for cell in plan.cells],
        "compare": [f"{stem}.json" for stem in stems],
        "positions": [ancient(f"{stem}.h5") for stem in stems],
        "imatrices": [f"{folder}/imatrix/{name}.json" for name in plan.calibrations],
        "tokens": [text["tokens"] for text in texts],
        "facts": [text["facts"] for text in texts],
    }


def study_description(wildcards):
    """A study as its command takes it, without the files."""
    plan = PLANS[wildcards.study]
    sizes = {label: CALIBRATIONS[name] for label, name in plan.texts.items()}
    return {
        "settings": plan.settings,
        "cells": [{"recipe": cell.recipe, "labels": cell.labels} for cell in plan.cells],
        "texts": {label: {"n_ctx": c.n_ctx, "windows": c.windows} for label, c in sizes.items()},
    }


def study_option(wildcards, input):
    """A study as its command takes it."""
    found = study_description(wildcards)
    paths = zip(input.cells, input.compare, input.positions, strict=True)
    for cell, own in zip(found["cells"], paths, strict=True):
        cell |= dict(zip(("info", "compare", "positions"), own, strict=True))
    for text, tokens in zip(found["texts"].values(), input.tokens, strict=True):
        text["tokens"] = tokens
    return json.dumps(found)


rule study:
    """A study's page, rows and picture."""
    input:
        unpack(study_files),
        script=ancient(script_path("study.py")),
        info="results/{model}/model.json",
    output:
        markdown="results/{model}/studies/{study}/index.md",
        csv="results/{model}/studies/{study}/table.csv",
        picture=shown("results/{model}/studies/{study}/picture.png", "studies", "{study}"),
    log:
        "results/logs/{model}/studies/{study}.log",
    benchmark:
        "results/benchmarks/{model}/studies/{study}.tsv"
    localrule: True
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        **TABLE,
    params:
        **decided("study.py", study=study_description),
        study=study_option,
    shell:
        "python {input.script:q} --log {log:q}"
        " --study @/dev/fd/3"
        " --imatrices {input.imatrices:q}"
        " --info {input.info:q}"
        " --title '{wildcards.model}: {wildcards.study}'"
        " --markdown {output.markdown:q}"
        " --csv {output.csv:q}"
        " --picture {output.picture:q}"
        " 3<<< {params.study:q}"


rule studies:
    """Only the studies."""
    input:
        STUDIED,
