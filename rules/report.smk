"""What the user reads: all recipes side by side.

Needs: common, costs, axes, quantize, foreign, imatrix.
"""

from quern.quantize.recipes import with_roundings

READ += for_models(
    "results/{model}/summary/{evaluation}.{ending}",
    evaluation=EVALUATED,
    ending=["csv", "pairs.csv", "md", "png"],
)
# Recipes that are measured with several types of the K/V cache, at a long context.
KV = config["evaluation"]["kv"]
KV_RECIPES = KV["recipes"] or [*dict.fromkeys([[*RECIPES][0], [*RECIPES][-1]])] if KV else []
with sentences():
    for i, name in enumerate(KV_RECIPES):
        require.known(["evaluation", "kv", "recipes", i], name, RECIPES)
READ += for_models("results/{model}/kv/{corpus}.{ending}", corpus=CACHES, ending=["csv", "md"])
# Recipes that are rounded, and what they are measured against: the same with ggml's rounding.
TABLED = with_roundings(RECIPES)
TABLED_ROWS = [labels(recipe) for recipe in TABLED.values()]


def figures_of(model, names, evaluation):
    """What recipes and foreign models are, and their comparisons, as inputs of a table."""
    stems = [f"results/{model}/compare/{name}/{evaluation}" for name in names]
    return {
        "info": [f"results/{model}/quantize/{name}.json" for name in names],
        "compare": [f"{stem}.json" for stem in stems],
        "positions": [ancient(f"{stem}.h5") for stem in stems],
    }


def summary_files(wildcards):
    """What a summary is made of."""
    return figures_of(wildcards.model, names_of(wildcards.model), wildcards.evaluation)


rule summary:
    """All recipes of a model on one evaluation: a table and a picture."""
    input:
        unpack(summary_files),
        script=ancient(script_path("summary.py")),
        model="results/{model}/model.json",
        imatrices=expand("results/{{model}}/imatrix/{calibration}.json", calibration=CALIBRATED),
    output:
        csv="results/{model}/summary/{evaluation}.csv",
        pairs="results/{model}/summary/{evaluation}.pairs.csv",
        markdown="results/{model}/summary/{evaluation}.md",
        picture=shown("results/{model}/summary/{evaluation}.png", "summary", "{evaluation}"),
    log:
        "results/logs/{model}/summary/{evaluation}.log",
    benchmark:
        "results/benchmarks/{model}/summary/{evaluation}.tsv"
    localrule: True
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        **TABLE,
    params:
        **decided("summary.py", recipes=listed),
        recipes=rows(listed, "info", "compare", "positions"),
    shell:
        "python {input.script:q} --log {log:q}"
        " --recipes @/dev/fd/3"
        " --imatrices {input.imatrices:q}"
        " --model {input.model:q}"
        " --title '{wildcards.model} on {wildcards.evaluation}'"
        " --csv {output.csv:q}"
        " --pairs {output.pairs:q}"
        " --markdown {output.markdown:q}"
        " --picture {output.picture:q}"
        " 3<<< {params.recipes:q}"


def tabled_files(wildcards):
    """What a table of roundings is made of."""
    benchmarks = [f"results/benchmarks/{wildcards.model}/quantize/{name}.tsv" for name in TABLED]
    found = figures_of(wildcards.model, TABLED, wildcards.corpus)
    return found | {"benchmark": [ancient(path) for path in benchmarks]}


rule rounding_table:
    """The roundings of a sweep beside ggml's own, on one corpus."""
    input:
        unpack(tabled_files),
        script=ancient(script_path("rounding_table.py")),
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
        **TABLE,
    params:
        **decided("rounding_table.py", recipes=TABLED_ROWS),
        recipes=rows(TABLED_ROWS, "info", "compare", "positions", "benchmark"),
    shell:
        "python {input.script:q} --log {log:q}"
        " --recipes @/dev/fd/3"
        " --title '{wildcards.model} on {wildcards.corpus}'"
        " --csv {output.csv:q}"
        " --markdown {output.markdown:q}"
        " 3<<< {params.recipes:q}"


def kv_rows(wildcards):
    """What the table says of each recipe with each type of the K/V cache."""
    caches = [evaluation.cache for evaluation in CACHES[wildcards.corpus].values()]
    return [labels(RECIPES[recipe]) | cache for recipe in KV_RECIPES for cache in caches]


def kv_files(wildcards):
    """Their descriptions and comparisons, in the same order."""
    found = {"info": [], "compare": [], "positions": []}
    for recipe in KV_RECIPES:
        for evaluation in CACHES[wildcards.corpus]:
            for name, paths in figures_of(wildcards.model, [recipe], evaluation).items():
                found[name] += paths
    return found


rule kv_table:
    """Types of the K/V cache side by side, for some recipes."""
    input:
        unpack(kv_files),
        script=ancient(script_path("kv_table.py")),
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
        **TABLE,
    params:
        **decided("kv_table.py", recipes=kv_rows),
        recipes=rows(kv_rows, "info", "compare", "positions"),
    shell:
        "python {input.script:q} --log {log:q}"
        " --recipes @/dev/fd/3"
        " --title '{wildcards.model} on {wildcards.corpus}: types of the K/V cache'"
        " --csv {output.csv:q}"
        " --markdown {output.markdown:q}"
        " 3<<< {params.recipes:q}"


rule rounding_pictures:
    """How well each search meets every direction of three values."""
    input:
        script=ancient(script_path("rounding_pictures.py")),
    output:
        shown("results/rounding/pictures.png", "rounding", "three values", model="searches"),
    log:
        "results/logs/rounding/pictures.log",
    benchmark:
        "results/benchmarks/rounding/pictures.tsv"
    localrule: True
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        **LIGHT,
    params:
        **decided("rounding_pictures.py"),
    shell:
        "python {input.script:q} --output {output:q} --log {log:q}"


rule roundings:
    """Only the tables of the roundings in the sweep."""
    input:
        for_models("results/{model}/rounding/{corpus}.md", corpus=config["evaluation"]["corpora"]),
