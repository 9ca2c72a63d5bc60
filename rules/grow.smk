"""Growth: each step quantizes with more calibration data and compares, until it stops paying.

Steps hold measurements only. The stop rule is evaluated while the graph is built, and its settings
are part of the path of what it chooses, so a change of settings asks for another file.
"""


use rule quantize as growth_quantize with:
    input:
        script=ancient(script_path("quantize.py")),
        model=ancient(model_path),
        info="results/{model}/model.json",
        imatrix=growth_imatrix,
    output:
        model=temp("results/{model}/growth/{corpus}/{type}@{windows}.gguf"),
        info="results/{model}/growth/{corpus}/{type}@{windows}.model.json",
    log:
        "results/logs/{model}/growth/{corpus}/{type}@{windows}.quantize.log",
    benchmark:
        "results/benchmarks/{model}/growth/{corpus}/{type}@{windows}.quantize.tsv"
    params:
        settings=growth_settings,
        options=growth_options,


use rule compare as growth_compare with:
    input:
        script=ancient(script_path("compare.py")),
        model=ancient("results/{model}/growth/{corpus}/{type}@{windows}.gguf"),
        info="results/{model}/growth/{corpus}/{type}@{windows}.model.json",
        baseline=ancient("results/{model}/baseline/{judge}.h5"),
        facts="results/{model}/baseline/{judge}.json",
        baseline_model=ancient(model_path),
        baseline_info="results/{model}/model.json",
    output:
        positions="results/{model}/growth/{corpus}/{type}@{windows}.{judge}.h5",
        windows="results/{model}/growth/{corpus}/{type}@{windows}.{judge}.csv",
        summary="results/{model}/growth/{corpus}/{type}@{windows}.{judge}.json",
        text="results/{model}/growth/{corpus}/{type}@{windows}.{judge}.txt",
    log:
        "results/logs/{model}/growth/{corpus}/{type}@{windows}.{judge}.compare.log",
    benchmark:
        "results/benchmarks/{model}/growth/{corpus}/{type}@{windows}.{judge}.compare.tsv"
    params:
        settings={"code": code("compare.py")},
        until="",


checkpoint growth_step:
    """Measure a step: its figures, and its gains over the steps before."""
    input:
        script=ancient(script_path("grow_step.py")),
        report=step_report,
        positions=step_positions,
        earlier=earlier_steps,
    output:
        step="results/{model}/growth/{corpus}/{ladder}/{step}.h5",
        facts="results/{model}/growth/{corpus}/{ladder}/{step}.json",
    log:
        "results/logs/{model}/growth/{corpus}/{ladder}/{step}.log",
    benchmark:
        "results/benchmarks/{model}/growth/{corpus}/{ladder}/{step}.tsv"
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        settings=step_settings,
        types=growth_types,
    shell:
        "python {input.script:q}"
        " --step {wildcards.step}"
        " --report {input.report:q}"
        " --types {params.types:q}"
        " --positions {input.positions:q}"
        " --earlier {input.earlier:q}"
        " --output {output.step:q}"
        " --facts {output.facts:q}"
        " --log {log:q}"


rule grow:
    """Choose the smallest imatrix that is not credibly worse than the best."""
    input:
        script=ancient(script_path("grow.py")),
        steps=steps_made,
        imatrices=step_imatrices,
        reports=step_reports,
        without=levels_without_imatrix,
    output:
        imatrix="results/{model}/growth/{corpus}/{choice}/chosen.gguf",
        report="results/{model}/growth/{corpus}/{choice}/chosen.json",
        decision="results/{model}/growth/{corpus}/{choice}/decision.json",
        markdown="results/{model}/growth/{corpus}/{choice}/steps.md",
        picture="results/{model}/growth/{corpus}/{choice}/steps.png",
    log:
        "results/logs/{model}/growth/{corpus}/{choice}/grow.log",
    benchmark:
        "results/benchmarks/{model}/growth/{corpus}/{choice}/grow.tsv"
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        settings={"code": code("grow.py")},
        types=types_without_imatrix,
        options=stop_options,
    shell:
        "python {input.script:q}"
        " --steps {input.steps:q}"
        " --imatrices {input.imatrices:q}"
        " --reports {input.reports:q}"
        " --title '{wildcards.model}: imatrix of {wildcards.corpus}'"
        " --types {params.types:q}"
        " --without {input.without:q}"
        " {params.options}"
        " --output {output.imatrix:q}"
        " --report {output.report:q}"
        " --decision {output.decision:q}"
        " --markdown {output.markdown:q}"
        " --picture {output.picture:q}"
        " --log {log:q}"
