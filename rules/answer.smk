"""The answer: which recipe to ship for each memory, and the page that proves it."""

from quern.sizes import Size

READ += expand(
    ["results/{model}/report/{evaluation}.md", "results/{model}/report/{evaluation}/index.html"],
    model=config["models"],
    evaluation=config["evaluation"]["corpora"],
)
BUDGETS = [Size.parse(text).bytes for text in config["report"]["budgets"] or []]


def speed_file(
    wildcards,
):
    """The recipes' speed, where the configuration asks for it."""
    return [f"results/{wildcards.model}/speed.json"] if config.get("speed") else []


def answer_options(
    wildcards,
    input,
):
    """Budgets and speed as options of the command."""
    return flags({"budgets": BUDGETS, "speed": input.speed})


rule answer:
    """Say which recipe to ship for each memory, and why."""
    input:
        script=ancient(script_path("answer.py")),
        table="results/{model}/summary/{evaluation}.csv",
        pairs="results/{model}/summary/{evaluation}.pairs.csv",
        memory=memories_of,
        speed=speed_file,
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
        mem_mb=2000,
        runtime=10,
    params:
        settings={"code": code("answer.py"), "budgets": BUDGETS},
        options=answer_options,
    shell:
        "python {input.script:q}"
        " --model {wildcards.model:q}"
        " --corpus {wildcards.evaluation:q}"
        " --title '{wildcards.model} on {wildcards.evaluation}: what to ship'"
        " --table {input.table:q}"
        " --pairs {input.pairs:q}"
        " --memory {input.memory:q}"
        " {params.options}"
        " --output {output.answer:q}"
        " --markdown {output.markdown:q}"
        " --log {log:q}"


def page_recipes(
    wildcards,
    input,
):
    """The recipes of the page."""
    files = {"info": input.info, "compare": input.compare, "positions": input.positions}
    return compared(listed(wildcards.model), **files)


def page_settings(
    wildcards,
):
    """What a page depends on besides its inputs."""
    found = {"code": code("page.py"), "templates": templates("report"), "configuration": SETTLED}
    return found | {"recipes": listed(wildcards.model)}


def page_options(
    wildcards,
    input,
):
    """Speed as an option of the command."""
    return flags({"speed": input.speed})


def growth_decisions(
    wildcards,
):
    """How each imatrix grew, where it did."""
    folder = f"results/{wildcards.model}/growth"
    return [f"{folder}/{corpus}/{CHOICE}/decision.json" for corpus in GROWN]


def page_cost(
    wildcards,
    gpu=0,
):
    """A page with the worst positions, whose logits are computed again."""
    return stages.page(shape_of(wildcards.model))


rule page:
    """The page of a model and a corpus: the answer, all recipes, how to repeat it."""
    input:
        script=ancient(script_path("page.py")),
        answer="results/{model}/report/{evaluation}.json",
        table="results/{model}/summary/{evaluation}.csv",
        memory=memories_of,
        speed=speed_file,
        info=infos_of,
        compare=comparisons_of,
        positions=ancient(positions_of),
        growth=growth_decisions,
        baseline=ancient(baseline_of),
        baseline_model=ancient(model_path),
        baseline_info="results/{model}/model.json",
    output:
        page=report(
            "results/{model}/report/{evaluation}/index.html",
            caption="captions/report.rst",
            category="report",
            subcategory="{model}",
            labels={"of": "{evaluation}", "what": "page"},
        ),
    log:
        "results/logs/{model}/report/{evaluation}.page.log",
    benchmark:
        "results/benchmarks/{model}/report/{evaluation}.page.tsv"
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        mem_mb=memory(page_cost),
        runtime=minutes(page_cost),
        seconds=seconds(page_cost),
        disk_mb=disk(page_cost),
    params:
        settings=page_settings,
        recipes=page_recipes,
        options=page_options,
        config=json.dumps(config, default=str),
        grown=GROWN,
    shell:
        "python {input.script:q}"
        " --recipes {params.recipes:q}"
        " --answer {input.answer:q}"
        " --table {input.table:q}"
        " --memory {input.memory:q}"
        " {params.options}"
        " --grown {params.grown:q}"
        " --growth {input.growth:q}"
        " --info {input.baseline_info:q}"
        " --baseline {input.baseline:q}"
        " --baseline-model {input.baseline_model:q}"
        " --config {params.config:q}"
        " --output {output.page:q}"
        " --log {log:q}"
