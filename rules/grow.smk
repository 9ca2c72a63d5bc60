"""Growth: each step quantizes with more calibration data and compares, until it stops paying.

Steps hold measurements only. The stop rule is evaluated while the graph is built, and its settings
are part of the path of what it chooses, so a change of settings asks for another file.

Needs: common, costs, models, axes, quantize, imatrix, compare.
"""

from itertools import count, islice
from pathlib import Path

from quern import files
from quern.cost import stages
from quern.growth.decision import decide
from quern.quantize.recipes import Recipe, needs_imatrix

# What the steps are made of and judged by, and what ends them; all empty without growth.
JUDGES, STOP, LADDER, CHOICE = [], {}, "none", "none"
GROWN = [name for name in CALIBRATED if grows(name)]
if GROWTH:
    JUDGES = GROWTH["types"]
    STOP = {key: GROWTH[key] for key in ("min_gain", "patience")}
    JUDGE = GROWTH["corpus"] or config["evaluation"]["corpora"][0]
    with sentences():
        require.known(["growth", "corpus"], JUDGE, config["corpora"])
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
    READ += for_models(
        ["results/{model}/growth/{corpus}/{choice}/steps.{ending}"],
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


def growth_recipe(wildcards):
    """The recipe that a step quantizes by."""
    imatrix = None if wildcards.windows == "none" else wildcards.corpus
    return Recipe(wildcards.type, imatrix=imatrix)


def growth_imatrix(wildcards):
    """The imatrix that a step quantizes with; none for the level that all are held against."""
    if wildcards.windows == "none":
        return []
    return [f"results/{wildcards.model}/imatrix/{wildcards.corpus}/{wildcards.windows}.gguf"]


def growth_options(wildcards):
    """That recipe as options of the command."""
    return options_of(growth_recipe(wildcards))


def growth_quantize_cost(wildcards, gpu=0):
    """All weights, by the search of the judging type."""
    shape = shape_of(wildcards.model)
    size = stages.quantized_bytes(shape, wildcards.type)
    return stages.quantize(shape, wildcards.type, size)


def growth_compare_cost(wildcards, gpu=0):
    """A judging type on the judging corpus."""
    size = stages.quantized_bytes(shape_of(wildcards.model), wildcards.type)
    return comparison_cost(wildcards.model, size, wildcards.judge, gpu)


def growth_compare_options(wildcards):
    """With which cache of keys and values; the noise of a step is not looked at."""
    return EVALUATIONS[wildcards.judge].cache | {"noise_windows": 0}


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
        **asked(growth_quantize_cost),
    params:
        **decided("quantize.py", growth_options, ["imatrix"]),


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
        **asked(growth_compare_cost),
        gpu=0,
    params:
        **decided("compare.py", growth_compare_options),


def rung(wildcards):
    """Windows of one step."""
    return next(islice(rungs(), int(wildcards.step), None))


def step_files(wildcards):
    """The report of a step's imatrix, the comparisons of its models, the steps before it."""
    model, corpus, windows = wildcards.model, wildcards.corpus, rung(wildcards)
    folder = f"results/{model}/growth/{corpus}"
    return {
        "report": f"results/{model}/imatrix/{corpus}/{windows}.json",
        "positions": [f"{folder}/{kind}@{windows}.{JUDGE}.h5" for kind in JUDGES],
        "earlier": [f"{folder}/{LADDER}/{step}.h5" for step in range(int(wildcards.step))],
    }


checkpoint growth_step:
    """Measure a step: its figures, and its gains over the steps before."""
    input:
        unpack(step_files),
        script=ancient(script_path("grow_step.py")),
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
        **TABLE,
    params:
        **decided("grow_step.py", types=JUDGES),
        types=JUDGES,
    shell:
        "python {input.script:q} --log {log:q}"
        " --step {wildcards.step}"
        " --report {input.report:q}"
        " --types {params.types:q}"
        " --positions {input.positions:q}"
        " --earlier {input.earlier:q}"
        " --output {output.step:q}"
        " --facts {output.facts:q}"


def measured_steps(wildcards):
    """The facts of all steps that the stop rule asks for, in order.

    Each step is a checkpoint. Where one is missing or stale, Snakemake makes it and asks again; until
    then it knows no names of inputs that are unpacked, so what waits for a checkpoint has its own.
    """
    if GROWTH["eager"]:
        folder = f"results/{wildcards.model}/growth/{wildcards.corpus}/{LADDER}"
        return [f"{folder}/{step}.json" for step in range(len(list(rungs())))]
    paths, steps, ladder = [], [], rungs()
    windows = next(ladder)
    for step in count():
        made = checkpoints.growth_step.get(
            model=wildcards.model, corpus=wildcards.corpus, ladder=LADDER, step=step
        )
        paths.append(made.output.facts)
        steps.append(files.read_json(Path(made.output.facts)))
        windows = next(ladder, None)
        if decide(steps, **STOP, last=windows is None).stop:
            return paths


def step_imatrices(wildcards):
    """The imatrix of each of those steps."""
    made = islice(rungs(), len(measured_steps(wildcards)))
    folder = f"results/{wildcards.model}/imatrix/{wildcards.corpus}"
    return [f"{folder}/{windows}.gguf" for windows in made]


def step_reports(wildcards):
    """Their reports."""
    return [path.removesuffix("gguf") + "json" for path in step_imatrices(wildcards)]


# The judging types that llama.cpp quantizes without an imatrix.
BARE_JUDGES = [kind for kind in JUDGES if not needs_imatrix(kind)]


def levels_without_imatrix(wildcards):
    """The comparisons of those types without one."""
    folder = f"results/{wildcards.model}/growth/{wildcards.corpus}"
    return [f"{folder}/{kind}@none.{JUDGE}.json" for kind in BARE_JUDGES]


rule grow:
    """Choose the smallest imatrix that is not credibly worse than the best."""
    input:
        script=ancient(script_path("grow.py")),
        steps=measured_steps,
        imatrices=step_imatrices,
        reports=step_reports,
        without=levels_without_imatrix,
    output:
        imatrix="results/{model}/growth/{corpus}/{choice}/chosen.gguf",
        report="results/{model}/growth/{corpus}/{choice}/chosen.json",
        decision="results/{model}/growth/{corpus}/{choice}/decision.json",
        markdown="results/{model}/growth/{corpus}/{choice}/steps.md",
        picture=shown("results/{model}/growth/{corpus}/{choice}/steps.png", "growth", "{corpus}"),
    log:
        "results/logs/{model}/growth/{corpus}/{choice}/grow.log",
    benchmark:
        "results/benchmarks/{model}/growth/{corpus}/{choice}/grow.tsv"
    localrule: True
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        **LIGHT,
    params:
        **decided("grow.py", STOP),
        types=BARE_JUDGES,
    shell:
        "python {input.script:q} --log {log:q}"
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


def used_imatrix(wildcards):
    """What recipes use of a calibration: the imatrix that grew, or that of all windows asked for."""
    folder, name = f"results/{wildcards.model}", wildcards.calibration
    calibration = CALIBRATIONS[name]
    windows = "all" if calibration.is_derived else calibration.windows or "all"
    all_asked, grown = f"imatrix/{name}/{windows}", f"growth/{name}/{CHOICE}/chosen"
    stem = f"{folder}/{grown if grows(name) else all_asked}"
    return {"imatrix": f"{stem}.gguf", "report": f"{stem}.json"}


rule imatrix_of_corpus:
    """The imatrix that recipes use: the grown one, or all that the configuration asks for."""
    input:
        unpack(used_imatrix),
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
        **LIGHT,
    shell:
        "(cp {input.imatrix:q} {output.imatrix:q}.part"
        " && cp {input.report:q} {output.report:q}"
        " && mv {output.imatrix:q}.part {output.imatrix:q}) > {log:q} 2>&1"
