"""The answer: which recipe to ship for each memory, and the page that proves it.

Needs: common, costs, models, baseline, foreign, grow, memory, speed, report.
"""

import json

from quern import published
from quern.cost import stages
from quern.sizes import Size

READ += for_models(
    ["results/{model}/report/{evaluation}.md", "results/{model}/report/{evaluation}/index.html"],
    evaluation=config["evaluation"]["corpora"],
)
BUDGETS = [Size.parse_bytes(text) for text in config["report"]["budgets"] or []]


rule answer:
    """Say which recipe to ship for each memory, and why."""
    input:
        script=ancient(script_path("answer.py")),
        table="results/{model}/summary/{evaluation}.csv",
        pairs="results/{model}/summary/{evaluation}.pairs.csv",
        memory=memories_of,
        speed=speed_file,
        foreign=foreign_infos,
    output:
        answer="results/{model}/report/{evaluation}.json",
        markdown="results/{model}/report/{evaluation}.md",
    log:
        "results/logs/{model}/report/{evaluation}.log",
    benchmark:
        "results/benchmarks/{model}/report/{evaluation}.tsv"
    localrule: True
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        **LIGHT,
    params:
        **decided("answer.py", {"budgets": BUDGETS}, ["speed", "foreign"]),
    shell:
        "python {input.script:q} --log {log:q}"
        " --model {wildcards.model:q}"
        " --corpus {wildcards.evaluation:q}"
        " --title '{wildcards.model} on {wildcards.evaluation}: what to ship'"
        " --table {input.table:q}"
        " --pairs {input.pairs:q}"
        " --memory {input.memory:q}"
        " {params.options}"
        " --output {output.answer:q}"
        " --markdown {output.markdown:q}"


def growth_decisions(wildcards):
    """How each imatrix grew, where it did."""
    folder = f"results/{wildcards.model}/growth"
    return [f"{folder}/{corpus}/{CHOICE}/decision.json" for corpus in GROWN]


def page_files(wildcards):
    """The recipes of the page, and the baseline that they are held against."""
    return summary_files(wildcards) | {"baseline": baseline_of(wildcards)["baseline"]}


def page_cost(wildcards, gpu=0):
    """A page with the worst positions, whose logits are computed again."""
    return stages.page(shape_of(wildcards.model))


rule page:
    """The page of a model and a corpus: the answer, all recipes, how to repeat it."""
    input:
        unpack(page_files),
        script=ancient(script_path("page.py")),
        answer="results/{model}/report/{evaluation}.json",
        table="results/{model}/summary/{evaluation}.csv",
        memory=memories_of,
        speed=speed_file,
        growth=growth_decisions,
        baseline_model=ancient(model_path),
        baseline_info="results/{model}/model.json",
    output:
        page=shown(
            "results/{model}/report/{evaluation}/index.html", "report", "{evaluation}", "page"
        ),
    log:
        "results/logs/{model}/report/{evaluation}.page.log",
    benchmark:
        "results/benchmarks/{model}/report/{evaluation}.page.tsv"
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        **asked(page_cost),
    params:
        **decided(
            "page.py",
            given=["speed"],
            templates=templates("report"),
            configuration=SETTLED,
            recipes=listed,
        ),
        recipes=rows(listed, "info", "compare", "positions"),
        config=json.dumps(published.configuration(config, SCHEMA), default=str),
        grown=GROWN,
    shell:
        "python {input.script:q} --log {log:q}"
        " --recipes @/dev/fd/3"
        " --answer {input.answer:q}"
        " --table {input.table:q}"
        " --memory {input.memory:q}"
        " {params.options}"
        " --grown {params.grown:q}"
        " --growth {input.growth:q}"
        " --info {input.baseline_info:q}"
        " --baseline {input.baseline:q}"
        " --baseline-model {input.baseline_model:q}"
        " --config @/dev/fd/4"
        " --output {output.page:q}"
        " 3<<< {params.recipes:q}"
        " 4<<< {params.config:q}"
