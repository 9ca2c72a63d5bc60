"""Quantized models, one a recipe."""


rule quantize:
    """Quantize a model by a recipe: type, imatrix, options."""
    input:
        script=ancient(script_path("quantize.py")),
        model=ancient(model_path),
        info="results/{model}/model.json",
        imatrix=recipe_imatrix,
    output:
        model="results/{model}/quantize/{recipe}.gguf",
        info="results/{model}/quantize/{recipe}.json",
    log:
        "results/logs/{model}/quantize/{recipe}.log",
    benchmark:
        "results/benchmarks/{model}/quantize/{recipe}.tsv"
    conda:
        "../envs/quern.yaml"
    threads: 8
    resources:
        mem_mb=memory,
        runtime=minutes,
    params:
        settings=recipe_settings,
        options=recipe_options,
    shell:
        "python {input.script:q}"
        " --model {input.model:q}"
        " --info {input.info:q}"
        " {params.options}"
        " --threads {threads}"
        " --output {output.model:q}"
        " --output-info {output.info:q}"
        " --log {log:q}"
