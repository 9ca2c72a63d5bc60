"""Quantized models, one a recipe."""


rule quantize:
    """Quantize a model by a recipe: type, imatrix, options."""
    input:
        script=ancient(script_path("quantize.py")),
        model=ancient(model_path),
        info="results/{model}/model.json",
        imatrix=recipe_imatrix,
    output:
        model="results/{model}/quantize/{plain}.gguf",
        info="results/{model}/quantize/{plain}.json",
    log:
        "results/logs/{model}/quantize/{plain}.log",
    benchmark:
        "results/benchmarks/{model}/quantize/{plain}.tsv"
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


rule reround:
    """Round the weights of what llama.cpp quantized again, from the unquantized ones."""
    input:
        script=ancient(script_path("reround.py")),
        baseline=ancient(model_path),
        model=ancient(rounding_model),
        info=rounding_info,
        imatrix=rounding_imatrix,
    output:
        model="results/{model}/quantize/{rounded}.gguf",
        info="results/{model}/quantize/{rounded}.json",
    log:
        "results/logs/{model}/quantize/{rounded}.log",
    benchmark:
        "results/benchmarks/{model}/quantize/{rounded}.tsv"
    conda:
        "../envs/quern.yaml"
    threads: 8
    resources:
        mem_mb=memory,
        runtime=minutes,
    params:
        settings=rounding_settings,
        options=rounding_options,
    shell:
        "python {input.script:q}"
        " --baseline {input.baseline:q}"
        " --quantized {input.model:q}"
        " {params.options}"
        " --threads {threads}"
        " --output {output.model:q}"
        " --output-info {output.info:q}"
        " --log {log:q}"
