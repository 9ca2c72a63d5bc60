"""Perplexity alone, which needs no baseline store, of recipes, foreign models and the model itself."""

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
            require_corpus(["perplexity", "corpora", i], name)
        for i, name in enumerate(PERPLEXITY["recipes"] or []):
            known = [UNQUANTIZED, *RECIPES, *config["candidates"]]
            unknown = configuration.unknown(name, known)
            require(name in known, ["perplexity", "recipes", i], unknown)
PERPLEXITY_TABLES = expand(
    "results/{model}/perplexity/{corpus}.{ending}",
    model=config["models"],
    corpus=(PERPLEXITY.get("corpora") or config["evaluation"]["corpora"]) if PERPLEXITY else [],
    ending=["csv", "md"],
)
READ += PERPLEXITY_TABLES


wildcard_constraints:
    measured=one_of([UNQUANTIZED, *RECIPES, *config["candidates"]]),


def measured_of(
    model,
):
    """What the table of a model shows, by name."""
    foreign = FOREIGN[model]
    known = [UNQUANTIZED, *RECIPES, *foreign]
    return [name for name in PERPLEXITY["recipes"] or [*RECIPES, *foreign] if name in known]


def measured_model(
    wildcards,
):
    """The file whose perplexity is measured."""
    if wildcards.measured == UNQUANTIZED:
        return model_path(wildcards)
    own = f"results/{wildcards.model}/quantize/{wildcards.measured}.gguf"
    return FOREIGN[wildcards.model].get(wildcards.measured, own)


def measured_info(
    wildcards,
):
    """What is known of it."""
    if wildcards.measured == UNQUANTIZED:
        return f"results/{wildcards.model}/model.json"
    return f"results/{wildcards.model}/quantize/{wildcards.measured}.json"


def perplexity_cost(
    wildcards,
    gpu=0,
):
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
        script=ancient(script_path("perplexity.py")),
        model=ancient(measured_model),
        info=measured_info,
        tokens=ancient("results/{model}/tokens/{corpus}.evaluation.h5"),
        facts="results/{model}/tokens/{corpus}.evaluation.json",
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
        mem_mb=memory(perplexity_cost),
        runtime=minutes(perplexity_cost),
        seconds=seconds(perplexity_cost),
        disk_mb=disk(perplexity_cost),
        gpu=0,
    params:
        settings={"code": code("perplexity.py")} | CUT,
        options=flags(CUT),
    shell:
        "python {input.script:q}"
        " --model {input.model:q}"
        " --info {input.info:q}"
        " --tokens {input.tokens:q}"
        " --tokenized-for {input.baseline_model:q}"
        " {params.options}"
        " --threads {threads}"
        " --gpus {resources.gpu}"
        " --output {output.positions:q}"
        " --summary {output.summary:q}"
        " --log {log:q}"


def measured_summaries(
    wildcards,
):
    """The figures of a table."""
    folder = f"results/{wildcards.model}/perplexity"
    return [f"{folder}/{name}/{wildcards.corpus}.json" for name in measured_of(wildcards.model)]


def measured_positions(
    wildcards,
):
    """What each token cost in each of them."""
    folder = f"results/{wildcards.model}/perplexity"
    return [f"{folder}/{name}/{wildcards.corpus}.h5" for name in measured_of(wildcards.model)]


def measured_entries(
    wildcards,
    input,
):
    """What the table is made of, as the command takes it."""
    rows = zip(measured_of(wildcards.model), input.summaries, input.positions, strict=True)
    return json.dumps([dict(zip(("name", "summary", "positions"), row)) for row in rows])


def perplexity_table_settings(
    wildcards,
):
    """What a table depends on besides its inputs."""
    return {"code": code("perplexity_table.py"), "models": measured_of(wildcards.model)}


rule perplexity_table:
    """Perplexities of a model's recipes side by side."""
    input:
        script=ancient(script_path("perplexity_table.py")),
        summaries=measured_summaries,
        positions=ancient(measured_positions),
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
        mem_mb=2000,
        runtime=10,
    params:
        settings=perplexity_table_settings,
        models=measured_entries,
    shell:
        "python {input.script:q}"
        " --models {params.models:q}"
        " --title '{wildcards.model} on {wildcards.corpus}: perplexity'"
        " --csv {output.csv:q}"
        " --markdown {output.markdown:q}"
        " --log {log:q}"


rule perplexities:
    """Only the tables of perplexity."""
    input:
        PERPLEXITY_TABLES,
