"""What the user reads: all recipes side by side."""

RECIPE_LABELS = [f"{name}:{r['type']}:{r['imatrix'] or 'none'}" for name, r in RECIPES.items()]


rule summary:
    """All recipes of a model on one corpus: a table and a picture."""
    input:
        script=ancient(script_path("summary.py")),
        info=expand("results/{{model}}/quantize/{recipe}.json", recipe=RECIPES),
        compare=expand("results/{{model}}/compare/{recipe}/{{corpus}}.json", recipe=RECIPES),
    output:
        csv="results/{model}/summary/{corpus}.csv",
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
        mem_mb=1000,
        runtime=10,
    params:
        settings={"code": code("summary.py"), "recipes": RECIPE_LABELS},
        recipes=RECIPE_LABELS,
    shell:
        "python {input.script:q}"
        " --recipes {params.recipes:q}"
        " --info {input.info:q}"
        " --compare {input.compare:q}"
        " --title '{wildcards.model} on {wildcards.corpus}'"
        " --csv {output.csv:q}"
        " --markdown {output.markdown:q}"
        " --picture {output.picture:q}"
        " --log {log:q}"
