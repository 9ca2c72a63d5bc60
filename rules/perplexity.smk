"""Perplexity alone, which needs no baseline store, of recipes, foreign models and the model itself.

Needs: common, costs, models, corpora, quantize, foreign.
"""

from quern.cost import stages
from quern.cost.stages import Decoded

UNQUANTIZED = "baseline"  # what the model itself is called among them
PERPLEXITY = config["perplexity"] or {}
CUT = {}  # how the text is cut into windows
if PERPLEXITY:
    CUT = {key: config["evaluation"][key] for key in ("n_ctx", "windows")}
    CUT = {key: PERPLEXITY[key] or CUT.get(key) for key in ("n_ctx", "windows", "stride")}
    with sentences():
        require(
            UNQUANTIZED not in config["candidates"],
            ["candidates", UNQUANTIZED],
            "in tables of perplexity the model itself has this name; choose another",
        )
        require(
            not CUT["stride"] or CUT["stride"] < CUT["n_ctx"],
            ["perplexity", "stride"],
            f"windows of {CUT['n_ctx']} tokens do not overlap then; give less",
        )
        for i, name in enumerate(PERPLEXITY["corpora"] or []):
            require.known(["perplexity", "corpora", i], name, config["corpora"])
        for i, name in enumerate(PERPLEXITY["recipes"] or []):
            known = [UNQUANTIZED, *RECIPES, *config["candidates"]]
            require.known(["perplexity", "recipes", i], name, known)
PERPLEXITY_TABLES = for_models(
    "results/{model}/perplexity/{corpus}.{ending}",
    corpus=(PERPLEXITY.get("corpora") or config["evaluation"]["corpora"]) if PERPLEXITY else [],
    ending=["csv", "md"],
)
READ += PERPLEXITY_TABLES


wildcard_constraints:
    measured=one_of([UNQUANTIZED, *RECIPES, *config["candidates"]]),


def measured_names(model):
    """What the table of a model shows, by name."""
    known = [UNQUANTIZED, *names_of(model)]
    return [name for name in PERPLEXITY["recipes"] or names_of(model) if name in known]


def measured_files(wildcards):
    """What is measured, with its description, and the tokens."""
    model, name = wildcards.model, wildcards.measured
    text = with_facts(model, f"{wildcards.corpus}.evaluation")
    if name == UNQUANTIZED:
        return text | {
            "model": ancient(model_path(wildcards)),
            "info": f"results/{model}/model.json",
        }
    info = f"results/{model}/quantize/{name}.json"
    return text | {"model": ancient(compared_file(model, name)), "info": info}


def perplexity_cost(wildcards, gpu=0):
    """A model over windows, which may overlap."""
    model, n_ctx = wildcards.model, CUT["n_ctx"]
    step = CUT["stride"] or n_ctx
    windows = windows_of(model, wildcards.corpus, "evaluation", step, CUT["windows"])
    windows = Decoded(windows.count, n_ctx, CUT["stride"] or n_ctx // 2 - 1)
    size = measured_bytes(model, wildcards.measured)
    return stages.perplexity(shape_of(model), size, windows, gpu)


rule perplexity:
    """Measure the perplexity of a model alone. An interrupted run goes on where it stopped."""
    input:
        unpack(measured_files),
        script=ancient(script_path("perplexity.py")),
        baseline_model=ancient(model_path),
    output:
        positions="results/{model}/perplexity/{measured}/{corpus}.h5",
        summary="results/{model}/perplexity/{measured}/{corpus}.json",
    log:
        "results/logs/{model}/perplexity/{measured}/{corpus}.log",
    benchmark:
        "results/benchmarks/{model}/perplexity/{measured}/{corpus}.tsv"
    conda:
        MODEL_ENVIRONMENT
    threads: 8
    resources:
        **asked(perplexity_cost),
        gpu=0,
    params:
        **decided("perplexity.py", CUT),
    shell:
        "python {input.script:q} --log {log:q}"
        " --model {input.model:q}"
        " --info {input.info:q}"
        " --tokens {input.tokens:q}"
        " --tokenized-for {input.baseline_model:q}"
        " {params.options}"
        " --threads {threads} --gpus {resources.gpu}"
        " --output {output.positions:q}"
        " --summary {output.summary:q}"


def measured_rows(wildcards):
    """What the table says of each."""
    return [{"name": name} for name in measured_names(wildcards.model)]


def measured_figures(wildcards):
    """Its figures, and what each token cost."""
    folder, corpus = f"results/{wildcards.model}/perplexity", wildcards.corpus
    stems = [f"{folder}/{name}/{corpus}" for name in measured_names(wildcards.model)]
    positions = [ancient(f"{stem}.h5") for stem in stems]
    return {"summary": [f"{stem}.json" for stem in stems], "positions": positions}


rule perplexity_table:
    """Perplexities of a model's recipes side by side."""
    input:
        unpack(measured_figures),
        script=ancient(script_path("perplexity_table.py")),
    output:
        csv="results/{model}/perplexity/{corpus}.csv",
        markdown="results/{model}/perplexity/{corpus}.md",
    log:
        "results/logs/{model}/perplexity/{corpus}.log",
    benchmark:
        "results/benchmarks/{model}/perplexity/{corpus}.tsv"
    localrule: True
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        **LIGHT,
    params:
        **decided("perplexity_table.py", models=measured_rows),
        models=rows(measured_rows, "summary", "positions"),
    shell:
        "python {input.script:q} --log {log:q}"
        " --models @/dev/fd/3"
        " --title '{wildcards.model} on {wildcards.corpus}: perplexity'"
        " --csv {output.csv:q}"
        " --markdown {output.markdown:q}"
        " 3<<< {params.models:q}"


rule perplexities:
    """Only the tables of perplexity."""
    input:
        PERPLEXITY_TABLES,
