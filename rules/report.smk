"""What the user reads: all recipes side by side."""

from quern.quantize.recipes import with_roundings

READ += expand(
    "results/{model}/summary/{evaluation}.{ending}",
    model=config["models"],
    evaluation=EVALUATED,
    ending=["csv", "pairs.csv", "md", "png"],
)
# Recipes that are measured with several types of the K/V cache, at a long context.
KV = config["evaluation"]["kv"]
KV_RECIPES = KV["recipes"] or [*dict.fromkeys([[*RECIPES][0], [*RECIPES][-1]])] if KV else []
with sentences():
    for i, name in enumerate(KV_RECIPES):
        known = configuration.unknown(name, RECIPES)
        require(name in RECIPES, ["evaluation", "kv", "recipes", i], known)
READ += expand(
    "results/{model}/kv/{corpus}.{ending}",
    model=config["models"],
    corpus=CACHES,
    ending=["csv", "md"],
)
# Recipes that are rounded, and what they are measured against: the same with ggml's rounding.
TABLED = with_roundings(RECIPES)


def labels(
    recipe,
):
    """What a table says of a recipe."""
    found = {"name": recipe.name, "type": recipe.label, "imatrix": recipe.imatrix or "none"}
    found |= {"rounding": recipe.rounding, "plain": recipe.unrounded.name}
    return found | {"foreign": False}


def foreign_labels(
    name,
):
    """What a table says of a foreign model: nobody told us how it was quantized."""
    found = {"name": name, "type": name, "imatrix": "unknown", "rounding": "unknown"}
    return found | {"plain": name, "foreign": True}


def listed(
    model,
):
    """What the tables say of all recipes and foreign models of a model, in order."""
    own = [labels(recipe) for recipe in RECIPES.values()]
    return own + [foreign_labels(name) for name in FOREIGN[model]]


def compared(
    entries,
    **files,
):
    """A list of recipes as the tables take it: what to say of each, and its files."""
    return json.dumps(
        [
            entry | dict(zip(files, paths, strict=True))
            for entry, *paths in zip(entries, *files.values(), strict=True)
        ]
    )


def infos_of(
    wildcards,
):
    """What is known of all recipes and foreign models of a model."""
    names = [entry["name"] for entry in listed(wildcards.model)]
    return [f"results/{wildcards.model}/quantize/{name}.json" for name in names]


def comparisons_of(
    wildcards,
):
    """Their comparisons."""
    folder, evaluation = f"results/{wildcards.model}/compare", wildcards.evaluation
    return [f"{folder}/{entry['name']}/{evaluation}.json" for entry in listed(wildcards.model)]


def positions_of(
    wildcards,
):
    """Their figures per position."""
    return [path.removesuffix("json") + "h5" for path in comparisons_of(wildcards)]


def memories_of(
    wildcards,
):
    """What they take of memory."""
    folder = f"results/{wildcards.model}/memory"
    return [f"{folder}/{entry['name']}.json" for entry in listed(wildcards.model)]


def summary_settings(
    wildcards,
):
    """What a summary depends on besides its inputs."""
    return {"code": code("summary.py"), "recipes": listed(wildcards.model)}


def summary_recipes(
    wildcards,
    input,
):
    """The recipes of the summary."""
    files = {"info": input.info, "compare": input.compare, "positions": input.positions}
    return compared(listed(wildcards.model), **files)


rule summary:
    """All recipes of a model on one evaluation: a table and a picture."""
    input:
        script=ancient(script_path("summary.py")),
        info=infos_of,
        compare=comparisons_of,
        positions=ancient(positions_of),
        imatrices=expand("results/{{model}}/imatrix/{calibration}.json", calibration=CALIBRATED),
    output:
        csv="results/{model}/summary/{evaluation}.csv",
        pairs="results/{model}/summary/{evaluation}.pairs.csv",
        markdown="results/{model}/summary/{evaluation}.md",
        picture=report(
            "results/{model}/summary/{evaluation}.png",
            caption="captions/summary.rst",
            category="summary",
            subcategory="{model}",
            labels={"of": "{evaluation}", "what": "picture"},
        ),
    log:
        "results/logs/{model}/summary/{evaluation}.log",
    benchmark:
        "results/benchmarks/{model}/summary/{evaluation}.tsv"
    localrule: True
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        settings=summary_settings,
        recipes=summary_recipes,
    shell:
        "python {input.script:q}"
        " --recipes {params.recipes:q}"
        " --imatrices {input.imatrices:q}"
        " --title '{wildcards.model} on {wildcards.evaluation}'"
        " --csv {output.csv:q}"
        " --pairs {output.pairs:q}"
        " --markdown {output.markdown:q}"
        " --picture {output.picture:q}"
        " --log {log:q}"


def rounding_recipes(
    wildcards,
    input,
):
    """The recipes of the table of roundings."""
    return compared(
        [labels(recipe) for recipe in TABLED.values()],
        info=input.info,
        compare=input.compare,
        positions=input.positions,
        benchmark=input.benchmarks,
    )


rule rounding_table:
    """The roundings of a sweep beside ggml's own, on one corpus."""
    input:
        script=ancient(script_path("rounding_table.py")),
        info=expand("results/{{model}}/quantize/{recipe}.json", recipe=TABLED),
        compare=expand("results/{{model}}/compare/{recipe}/{{corpus}}.json", recipe=TABLED),
        positions=ancient(expand("results/{{model}}/compare/{recipe}/{{corpus}}.h5", recipe=TABLED)),
        benchmarks=ancient(
            expand("results/benchmarks/{{model}}/quantize/{recipe}.tsv", recipe=TABLED)
        ),
    output:
        csv="results/{model}/rounding/{corpus}.csv",
        markdown="results/{model}/rounding/{corpus}.md",
    log:
        "results/logs/{model}/rounding/{corpus}.log",
    benchmark:
        "results/benchmarks/{model}/rounding/{corpus}.tsv"
    localrule: True
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        settings={
            "code": code("rounding_table.py"),
            "recipes": [labels(r) for r in TABLED.values()],
        },
        recipes=rounding_recipes,
    shell:
        "python {input.script:q}"
        " --recipes {params.recipes:q}"
        " --title '{wildcards.model} on {wildcards.corpus}'"
        " --csv {output.csv:q}"
        " --markdown {output.markdown:q}"
        " --log {log:q}"


def kv_compared(
    wildcards,
):
    """The comparisons of a corpus with all types of the K/V cache, recipe by recipe."""
    folder = f"results/{wildcards.model}/compare"
    caches = CACHES[wildcards.corpus]
    return [f"{folder}/{recipe}/{name}.json" for recipe in KV_RECIPES for name in caches]


def kv_positions(
    wildcards,
):
    """Their figures per position."""
    return [path.removesuffix("json") + "h5" for path in kv_compared(wildcards)]


def kv_listed(
    corpus,
):
    """What the table says of them, in the same order."""
    caches = [evaluation.cache for evaluation in CACHES[corpus].values()]
    return [labels(RECIPES[recipe]) | cache for recipe in KV_RECIPES for cache in caches]


def kv_settings(
    wildcards,
):
    """What the table depends on besides its inputs."""
    return {"code": code("kv_table.py"), "recipes": kv_listed(wildcards.corpus)}


def kv_recipes(
    wildcards,
    input,
):
    """The recipes of the table, once for each type of cache."""
    entries = kv_listed(wildcards.corpus)
    info = [f"results/{wildcards.model}/quantize/{entry['name']}.json" for entry in entries]
    return compared(entries, info=info, compare=input.compare, positions=input.positions)


rule kv_table:
    """Types of the K/V cache side by side, for some recipes."""
    input:
        script=ancient(script_path("kv_table.py")),
        info=expand("results/{{model}}/quantize/{recipe}.json", recipe=KV_RECIPES),
        compare=kv_compared,
        positions=ancient(kv_positions),
    output:
        csv="results/{model}/kv/{corpus}.csv",
        markdown="results/{model}/kv/{corpus}.md",
    log:
        "results/logs/{model}/kv/{corpus}.log",
    benchmark:
        "results/benchmarks/{model}/kv/{corpus}.tsv"
    localrule: True
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        settings=kv_settings,
        recipes=kv_recipes,
    shell:
        "python {input.script:q}"
        " --recipes {params.recipes:q}"
        " --title '{wildcards.model} on {wildcards.corpus}: types of the K/V cache'"
        " --csv {output.csv:q}"
        " --markdown {output.markdown:q}"
        " --log {log:q}"


rule rounding_pictures:
    """How well each search meets every direction of three values."""
    input:
        script=ancient(script_path("rounding_pictures.py")),
    output:
        report(
            "results/rounding/pictures.png",
            caption="captions/rounding.rst",
            category="rounding",
            subcategory="searches",
            labels={"of": "three values", "what": "picture"},
        ),
    log:
        "results/logs/rounding/pictures.log",
    benchmark:
        "results/benchmarks/rounding/pictures.tsv"
    localrule: True
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        settings={"code": code("rounding_pictures.py")},
    shell:
        "python {input.script:q}" " --output {output:q}" " --log {log:q}"


rule roundings:
    """Only the tables of the roundings in the sweep."""
    input:
        expand(
            "results/{model}/rounding/{corpus}.md",
            model=config["models"],
            corpus=config["evaluation"]["corpora"],
        ),
