"""How far types of the K/V cache stray, at a long context, where it hurts."""

KV = config["evaluation"]["kv"]
KV_RECIPES, KV_TYPES = [], {}  # of each type the options that it stands for
if KV:
    KV_RECIPES = KV["recipes"] or [*dict.fromkeys([[*RECIPES][0], [*RECIPES][-1]])]
    with sentences():
        for i, name in enumerate(KV_RECIPES):
            known = configuration.unknown(name, RECIPES)
            require(name in RECIPES, ["evaluation", "kv", "recipes", i], known)
    KV_TYPES = {
        kind if flash == "auto" else f"{kind}-without-flash": {"kv_type": kind, "flash": flash}
        for kind in KV["types"]
        for flash in KV["flash"]
        if flash == "auto" or kind in ("f32", "f16", "bf16")
    }
    with sentences():
        require(
            len(KV_TYPES) > 1,
            ["evaluation", "kv", "flash"],
            "a quantized K/V cache needs flash attention, so nothing is left to compare; add auto",
        )
    READ += expand(
        "results/{model}/kv/{corpus}.{ending}",
        model=config["models"],
        corpus=config["evaluation"]["corpora"],
        ending=["csv", "md"],
    )
KV_BASELINE = EVALUATIONS[config["evaluation"]["corpora"][0]].options
KV_BASELINE |= {key: (KV or KV_BASELINE)[key] for key in ("n_ctx", "windows")}


wildcard_constraints:
    kv=one_of(KV_TYPES),


def kv_windows(
    model,
    evaluation,
):
    """The windows of the long context."""
    part = EVALUATIONS[evaluation].part
    return windows_of(model, evaluation, part, KV_BASELINE["n_ctx"], KV_BASELINE["windows"])


def kv_baseline_cost(
    wildcards,
    gpu=0,
):
    """The model over those windows."""
    windows = kv_windows(wildcards.model, wildcards.evaluation)
    return stages.baseline(shape_of(wildcards.model), windows, KV_BASELINE["store"], gpu)


def kv_compare_cost(
    wildcards,
    gpu=0,
):
    """A recipe over them."""
    model = wildcards.model
    windows, store = kv_windows(model, wildcards.corpus), KV_BASELINE["store"]
    size = measured_bytes(model, wildcards.recipe)
    return stages.compare(shape_of(model), size, windows, store, gpu)


use rule baseline as kv_baseline with:
    output:
        store="results/{model}/kv/baseline/{evaluation}.h5",
        facts="results/{model}/kv/baseline/{evaluation}.json",
    log:
        "results/logs/{model}/kv/baseline/{evaluation}.log",
    benchmark:
        "results/benchmarks/{model}/kv/baseline/{evaluation}.tsv"
    resources:
        mem_mb=memory(kv_baseline_cost),
        runtime=minutes(kv_baseline_cost),
        seconds=seconds(kv_baseline_cost),
        disk_mb=disk(kv_baseline_cost),
        gpu=0,
    params:
        settings={"code": code("baseline.py")} | KV_BASELINE,
        options=flags(KV_BASELINE),


def kv_settings(
    wildcards,
):
    """What a comparison with a type of cache depends on besides its inputs."""
    return {"code": code("compare.py")} | KV_TYPES[wildcards.kv]


def kv_options(
    wildcards,
):
    """A type of cache as options of the command."""
    return flags(KV_TYPES[wildcards.kv])


use rule compare as kv_compare with:
    input:
        script=ancient(script_path("compare.py")),
        model=ancient("results/{model}/quantize/{recipe}.gguf"),
        info="results/{model}/quantize/{recipe}.json",
        baseline=ancient("results/{model}/kv/baseline/{corpus}.h5"),
        facts="results/{model}/kv/baseline/{corpus}.json",
        baseline_model=ancient(model_path),
        baseline_info="results/{model}/model.json",
    output:
        positions="results/{model}/kv/compare/{recipe}/{kv}/{corpus}.h5",
        windows="results/{model}/kv/compare/{recipe}/{kv}/{corpus}.csv",
        summary="results/{model}/kv/compare/{recipe}/{kv}/{corpus}.json",
        text="results/{model}/kv/compare/{recipe}/{kv}/{corpus}.txt",
    log:
        "results/logs/{model}/kv/compare/{recipe}/{kv}/{corpus}.log",
    benchmark:
        "results/benchmarks/{model}/kv/compare/{recipe}/{kv}/{corpus}.tsv"
    resources:
        mem_mb=memory(kv_compare_cost),
        runtime=minutes(kv_compare_cost),
        seconds=seconds(kv_compare_cost),
        disk_mb=disk(kv_compare_cost),
        gpu=0,
    params:
        settings=kv_settings,
        options=kv_options,


def kv_compared(
    ending,
):
    """The comparisons of the table, by recipe and type of cache."""
    return expand(
        "results/{{model}}/kv/compare/{recipe}/{kv}/{{corpus}}.{ending}",
        recipe=KV_RECIPES,
        kv=KV_TYPES,
        ending=ending,
    )


def kv_entries(
    wildcards,
    input,
):
    """What the table is made of, as the command takes it."""
    rows = [(recipe, kv) for recipe in KV_RECIPES for kv in KV_TYPES]
    entries = []
    for (name, kv), compare, positions in zip(rows, input.compare, input.positions, strict=True):
        files = {"compare": compare, "positions": positions}
        files["info"] = f"results/{wildcards.model}/quantize/{name}.json"
        entries.append(labels(RECIPES[name]) | KV_TYPES[kv] | files)
    return json.dumps(entries)


rule kv_table:
    """Types of the K/V cache side by side, for some recipes."""
    input:
        script=ancient(script_path("kv_table.py")),
        info=expand("results/{{model}}/quantize/{recipe}.json", recipe=KV_RECIPES),
        compare=kv_compared("json"),
        positions=ancient(kv_compared("h5")),
    output:
        csv="results/{model}/kv/{corpus}.csv",
        markdown="results/{model}/kv/{corpus}.md",
    log:
        "results/logs/{model}/kv/{corpus}.log",
    benchmark:
        "results/benchmarks/{model}/kv/{corpus}.tsv"
    localrule: True
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        settings={"code": code("kv_table.py"), "recipes": KV_RECIPES, "types": list(KV_TYPES)},
        recipes=kv_entries,
    shell:
        "python {input.script:q}"
        " --recipes {params.recipes:q}"
        " --title '{wildcards.model} on {wildcards.corpus}: types of the K/V cache'"
        " --csv {output.csv:q}"
        " --markdown {output.markdown:q}"
        " --log {log:q}"
