"""Growth: each step quantizes with more calibration data and compares, until it stops paying.

Steps hold measurements only. The stop rule is evaluated while the graph is built, and its settings
are part of the path of what it chooses, so a change of settings asks for another file.
"""

from itertools import count, islice

from quern import files
from quern.growth.decision import decide
from quern.ggml_types import needs_imatrix
from quern.quantize.recipes import Recipe

# What the steps are made of and judged by, and what ends them; all empty without growth.
JUDGES, STOP, LADDER, CHOICE = [], {}, "none", "none"
GROWN = [name for name in CALIBRATED if grows(name)]
if GROWTH:
    JUDGES = GROWTH["types"]
    STOP = {key: GROWTH[key] for key in ("min_gain", "patience")}
    JUDGE = GROWTH["corpus"] or config["evaluation"]["corpora"][0]
    with sentences():
        require_corpus(["growth", "corpus"], JUDGE)
        require(
            GROWTH["largest_tokens"] or not GROWTH["eager"],
            ["growth", "eager"],
            "all steps at once need an end; set largest_tokens",
        )
    # Steps are named by all that they measure, the choice by all that decides it.
    LADDER = "{first_tokens}x{factor:g}-{judged}-on-{judge}".format(
        **GROWTH, judged="-".join(JUDGES), judge=JUDGE
    )
    CHOICE = "{ladder}-to-{end}-gain-{min_gain:g}-patience-{patience}{mode}".format(
        **GROWTH,
        ladder=LADDER,
        end=GROWTH["largest_tokens"] or "end",
        mode="-eager" if GROWTH["eager"] else "",
    )
    READ += expand(
        ["results/{model}/growth/{corpus}/{choice}/steps.{ending}"],
        model=config["models"],
        corpus=GROWN,
        choice=CHOICE,
        ending=["md", "png"],
    )


wildcard_constraints:
    judge=one_of(config["corpora"]),
    step=r"\d+",
    type=r"[A-Z0-9_]+",
    ladder=one_of([LADDER]),
    choice=one_of([CHOICE]),


def growth_recipe(
    wildcards,
):
    """The recipe that a step quantizes by."""
    imatrix = None if wildcards.windows == "none" else wildcards.corpus
    return Recipe(wildcards.type, imatrix=imatrix)


def growth_imatrix(
    wildcards,
):
    """The imatrix that a step quantizes with; none for the level that all are held against."""
    if wildcards.windows == "none":
        return []
    return [f"results/{wildcards.model}/imatrix/{wildcards.corpus}/{wildcards.windows}.gguf"]


def growth_settings(
    wildcards,
):
    """That recipe and the code that carries it out."""
    return {"code": code("quantize.py")} | settings_of(growth_recipe(wildcards))


def growth_options(
    wildcards,
    input,
):
    """That recipe as options of the command."""
    return options_of(growth_recipe(wildcards), input)


def growth_quantize_cost(
    wildcards,
    gpu=0,
):
    """All weights, by the search of the judging type."""
    shape = shape_of(wildcards.model)
    size = stages.quantized_bytes(shape, wildcards.type)
    return stages.quantize(shape, wildcards.type, size)


def growth_compare_cost(
    wildcards,
    gpu=0,
):
    """A judging type on the judging corpus."""
    size = stages.quantized_bytes(shape_of(wildcards.model), wildcards.type)
    return comparison_cost(wildcards.model, size, wildcards.judge, gpu)


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
    resources:
        mem_mb=memory(growth_quantize_cost),
        runtime=minutes(growth_quantize_cost),
        seconds=seconds(growth_quantize_cost),
        disk_mb=disk(growth_quantize_cost),
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
    resources:
        mem_mb=memory(growth_compare_cost),
        runtime=minutes(growth_compare_cost),
        seconds=seconds(growth_compare_cost),
        disk_mb=disk(growth_compare_cost),
        gpu=0,
    params:
        settings={"code": code("compare.py")},
        options=flags({"noise_windows": 0}),


def rung(
    wildcards,
):
    """Windows of one step."""
    return next(islice(rungs(), int(wildcards.step), None))


def step_report(
    wildcards,
):
    """The report of a step's imatrix."""
    return f"results/{wildcards.model}/imatrix/{wildcards.corpus}/{rung(wildcards)}.json"


def step_positions(
    wildcards,
):
    """The comparisons of a step's quantized models."""
    folder = f"results/{wildcards.model}/growth/{wildcards.corpus}"
    return [f"{folder}/{kind}@{rung(wildcards)}.{JUDGE}.h5" for kind in JUDGES]


def earlier_steps(
    wildcards,
):
    """What a step compares with."""
    folder = f"results/{wildcards.model}/growth/{wildcards.corpus}/{LADDER}"
    return [f"{folder}/{step}.h5" for step in range(int(wildcards.step))]


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
    localrule: True
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        settings={"code": code("grow_step.py"), "types": JUDGES},
        types=JUDGES,
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


def steps_taken(
    wildcards,
):
    """The facts of all steps that the stop rule asks for, in order.

    Each step is a checkpoint. Where one is missing or stale, Snakemake makes it and asks again.
    """
    if GROWTH["eager"]:
        folder = f"results/{wildcards.model}/growth/{wildcards.corpus}/{LADDER}"
        return [f"{folder}/{step}.json" for step in range(len(list(rungs())))]
    paths, steps, ladder = [], [], rungs()
    windows = next(ladder)
    for step in count():
        found = checkpoints.growth_step.get(
            model=wildcards.model, corpus=wildcards.corpus, ladder=LADDER, step=step
        )
        paths.append(found.output.facts)
        steps.append(files.read_json(Path(found.output.facts)))
        windows = next(ladder, None)
        if decide(steps, **STOP, last=windows is None).stop:
            return paths


def step_imatrices(
    wildcards,
):
    """The imatrix of each of those steps."""
    taken = islice(rungs(), len(steps_taken(wildcards)))
    folder = f"results/{wildcards.model}/imatrix/{wildcards.corpus}"
    return [f"{folder}/{windows}.gguf" for windows in taken]


def step_reports(
    wildcards,
):
    """Their reports."""
    return [path.removesuffix("gguf") + "json" for path in step_imatrices(wildcards)]


def types_without_imatrix(
    wildcards,
):
    """The judging types that llama.cpp quantizes without an imatrix."""
    return [kind for kind in JUDGES if not needs_imatrix(kind)]


def levels_without_imatrix(
    wildcards,
):
    """The comparisons of those types without one."""
    folder = f"results/{wildcards.model}/growth/{wildcards.corpus}"
    return [f"{folder}/{kind}@none.{JUDGE}.json" for kind in types_without_imatrix(wildcards)]


rule grow:
    """Choose the smallest imatrix that is not credibly worse than the best."""
    input:
        script=ancient(script_path("grow.py")),
        steps=steps_taken,
        imatrices=step_imatrices,
        reports=step_reports,
        without=levels_without_imatrix,
    output:
        imatrix="results/{model}/growth/{corpus}/{choice}/chosen.gguf",
        report="results/{model}/growth/{corpus}/{choice}/chosen.json",
        decision="results/{model}/growth/{corpus}/{choice}/decision.json",
        markdown="results/{model}/growth/{corpus}/{choice}/steps.md",
        picture=report(
            "results/{model}/growth/{corpus}/{choice}/steps.png",
            caption="captions/growth.rst",
            category="growth",
            subcategory="{model}",
            labels={"of": "{corpus}", "what": "picture"},
        ),
    log:
        "results/logs/{model}/growth/{corpus}/{choice}/grow.log",
    benchmark:
        "results/benchmarks/{model}/growth/{corpus}/{choice}/grow.tsv"
    localrule: True
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        settings={"code": code("grow.py")},
        types=types_without_imatrix,
        options=flags(STOP),
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


def used_imatrix(
    wildcards,
):
    """What recipes use of a calibration: the imatrix that grew, or that of all windows asked for."""
    folder, name = f"results/{wildcards.model}", wildcards.calibration
    if grows(name):
        return f"{folder}/growth/{name}/{CHOICE}/chosen.gguf"
    calibration = CALIBRATIONS[name]
    windows = "all" if calibration.is_derived else calibration.windows or "all"
    return f"{folder}/imatrix/{name}/{windows}.gguf"


def used_report(
    wildcards,
):
    """Its report."""
    return used_imatrix(wildcards).removesuffix("gguf") + "json"


rule imatrix_of_corpus:
    """The imatrix that recipes use: the grown one, or all that the configuration asks for."""
    input:
        imatrix=used_imatrix,
        report=used_report,
    output:
        imatrix="results/{model}/imatrix/{calibration}.gguf",
        report="results/{model}/imatrix/{calibration}.json",
    log:
        "results/logs/{model}/imatrix/{calibration}.log",
    benchmark:
        "results/benchmarks/{model}/imatrix/{calibration}.tsv"
    localrule: True
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "(cp {input.imatrix:q} {output.imatrix:q}.part"
        " && cp {input.report:q} {output.report:q}"
        " && mv {output.imatrix:q}.part {output.imatrix:q}) > {log:q} 2>&1"
