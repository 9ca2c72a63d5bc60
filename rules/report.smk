"""What the user reads: all recipes side by side."""

RECIPE_LABELS = [f"{name}:{r['type']}:{r['imatrix'] or 'none'}" for name, r in RECIPES.items()]


rule summary:
    """All recipes of a model on one corpus: a table and a picture."""
    input:
        script=ancient(script_path("summary.py")),
        info=expand("results/{{model}}/quantize/{recipe}.json", recipe=RECIPES),
        compare=expand("results/{{model}}/compare/{recipe}/{{corpus}}.json", recipe=RECIPES),
        positions=ancient(
            expand("results/{{model}}/compare/{recipe}/{{corpus}}.h5", recipe=RECIPES)
        ),
        noise="results/{model}/baseline/{corpus}.noise.json",
        imatrices=expand("results/{{model}}/imatrix/{corpus}.json", corpus=CALIBRATED),
    output:
        csv="results/{model}/summary/{corpus}.csv",
        pairs="results/{model}/summary/{corpus}.pairs.csv",
        markdown="results/{model}/summary/{corpus}.md",
        picture="results/{model}/summary/{corpus}.png",
    log:
        "results/logs/{model}/summary/{corpus}.log",
    benchmark:
        "results/benchmarks/{model}/summary/{corpus}.tsv"
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        settings={"code": code("summary.py"), "recipes": RECIPE_LABELS},
        recipes=RECIPE_LABELS,
    shell:
        "python {input.script:q}"
        " --recipes {params.recipes:q}"
        " --info {input.info:q}"
        " --compare {input.compare:q}"
        " --positions {input.positions:q}"
        " --noise {input.noise:q}"
        " --imatrices {input.imatrices:q}"
        " --title '{wildcards.model} on {wildcards.corpus}'"
        " --csv {output.csv:q}"
        " --pairs {output.pairs:q}"
        " --markdown {output.markdown:q}"
        " --picture {output.picture:q}"
        " --log {log:q}"
