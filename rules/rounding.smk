"""What rounding does: a table of the roundings in a sweep, and pictures of the searches."""

ROUNDING_LABELS = [f"{name}:{r['type']}:{r['imatrix'] or 'none'}" for name, r in TABLED.items()]


rule rounding_table:
    """The roundings of a sweep beside ggml's own, on one corpus."""
    input:
        script=ancient(script_path("rounding_table.py")),
        info=expand("results/{{model}}/quantize/{recipe}.json", recipe=TABLED),
        compare=expand("results/{{model}}/compare/{recipe}/{{corpus}}.json", recipe=TABLED),
        positions=ancient(expand("results/{{model}}/compare/{recipe}/{{corpus}}.h5", recipe=TABLED)),
        noise="results/{model}/baseline/{corpus}.noise.json",
    output:
        csv="results/{model}/rounding/{corpus}.csv",
        markdown="results/{model}/rounding/{corpus}.md",
    log:
        "results/logs/{model}/rounding/{corpus}.log",
    benchmark:
        "results/benchmarks/{model}/rounding/{corpus}.tsv"
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        settings={"code": code("rounding_table.py"), "recipes": ROUNDING_LABELS},
        recipes=ROUNDING_LABELS,
        rounded=[f"{rounding}:{plain}" for rounding, plain in map(rounding_of, TABLED)],
        times=expand("results/benchmarks/{{model}}/quantize/{recipe}.tsv", recipe=TABLED),
    shell:
        "python {input.script:q}"
        " --recipes {params.recipes:q}"
        " --rounded {params.rounded:q}"
        " --info {input.info:q}"
        " --compare {input.compare:q}"
        " --positions {input.positions:q}"
        " --times {params.times:q}"
        " --noise {input.noise:q}"
        " --title '{wildcards.model} on {wildcards.corpus}'"
        " --csv {output.csv:q}"
        " --markdown {output.markdown:q}"
        " --log {log:q}"


rule rounding_pictures:
    """How well each search meets every direction of three values."""
    input:
        script=ancient(script_path("rounding_pictures.py")),
    output:
        "results/rounding/pictures.png",
    log:
        "results/logs/rounding/pictures.log",
    benchmark:
        "results/benchmarks/rounding/pictures.tsv"
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
