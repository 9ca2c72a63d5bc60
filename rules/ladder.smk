"""What the rules of imatrix and growth ask for: shards, rungs, steps."""

from itertools import count, islice, takewhile

from quern import files
from quern.growth.decision import decide
from quern.growth.ladder import ladder, shards as cut_into_shards

GROWTH = config["growth"]
PARTS = 16  # jobs that share a whole pool, whose length is not known before they run
if GROWTH:
    JUDGE = GROWTH["corpus"] or config["evaluation"]["corpora"][0]
    # Steps are named by all that they measure, the choice by all that decides it.
    LADDER = "{first_tokens}x{factor:g}-{judged}-on-{judge}".format(
        **GROWTH, judged="-".join(GROWTH["types"]), judge=JUDGE
    )
    CHOICE = "{ladder}-to-{end}-gain-{min_gain:g}-patience-{patience}{mode}".format(
        **GROWTH,
        ladder=LADDER,
        end=GROWTH["largest_tokens"] or "end",
        mode="-eager" if GROWTH["eager"] else "",
    )


wildcard_constraints:
    shard=r"\d+-\d+|\d+of\d+",
    windows=r"\d+|all|none",
    step=r"\d+",
    type=r"[A-Z0-9_]+",
    ladder=re.escape(LADDER) if GROWTH else "none",
    choice=re.escape(CHOICE) if GROWTH else "none",


def rungs():
    """Windows of each step of the ladder, perhaps without end."""
    return ladder(
        GROWTH["first_tokens"],
        GROWTH["factor"],
        GROWTH["largest_tokens"],
        config["imatrix"]["n_ctx"],
    )


def rung(wildcards):
    """Windows of one step."""
    return next(islice(rungs(), int(wildcards.step), None))


def shard_windows(wildcards):
    """The options for a shard's windows: from one to another, or its part of the pool."""
    if "of" in wildcards.shard:
        return f"--part {wildcards.shard.replace('of', '/')}"
    first, last = wildcards.shard.split("-")
    return f"--from {first} --to {last}"


def shards_of(wildcards):
    """The shards of an imatrix."""
    folder = f"results/{wildcards.model}/imatrix/{wildcards.corpus}/shards"
    if wildcards.windows == "all":
        return [f"{folder}/{part}of{PARTS}.h5" for part in range(1, PARTS + 1)]
    windows = int(wildcards.windows)
    below = takewhile(windows.__gt__, rungs()) if GROWTH else []
    cuts = cut_into_shards([*below, windows], config["imatrix"]["shard_windows"])
    return [f"{folder}/{first}-{last}.h5" for first, last in cuts]


def windows_asked(wildcards):
    """The option that says how many windows there were to be."""
    return "" if wildcards.windows == "all" else f"--windows {wildcards.windows}"


def used_imatrix(wildcards):
    """What recipes use of a corpus, without the ending."""
    folder = f"results/{wildcards.model}"
    if GROWTH:
        return f"{folder}/growth/{wildcards.corpus}/{CHOICE}/chosen"
    return f"{folder}/imatrix/{wildcards.corpus}/{config['imatrix']['windows'] or 'all'}"


def imatrix_to_use(wildcards):
    return f"{used_imatrix(wildcards)}.gguf"


def report_to_use(wildcards):
    return f"{used_imatrix(wildcards)}.json"


def growth_reports():
    """What the user reads of each growth."""
    folder = "results/{model}/growth/{corpus}/{choice}"
    return (
        expand(
            [f"{folder}/steps.md", f"{folder}/steps.png"],
            model=config["models"],
            corpus=CALIBRATED,
            choice=CHOICE,
        )
        if GROWTH
        else []
    )


def growth_recipe(wildcards):
    """The recipe that a step quantizes by."""
    imatrix = None if wildcards.windows == "none" else wildcards.corpus
    return {"type": wildcards.type, "imatrix": imatrix}


def growth_settings(wildcards):
    """That recipe and the code that carries it out."""
    policy = {"unreached": config["imatrix"]["unreached"]}
    return {"code": code("quantize.py")} | growth_recipe(wildcards) | policy


def growth_options(wildcards, input):
    """That recipe as options of the command."""
    return options_of(growth_recipe(wildcards), input)


def growth_imatrix(wildcards):
    """The imatrix that a step quantizes with; none for the level that all are held against."""
    if wildcards.windows == "none":
        return []
    return [f"results/{wildcards.model}/imatrix/{wildcards.corpus}/{wildcards.windows}.gguf"]


def growth_types(wildcards):
    """The types that judge."""
    return GROWTH["types"]


def step_settings(wildcards):
    """What a step's facts depend on besides its inputs."""
    return {"code": code("grow_step.py"), "types": GROWTH["types"]}


def step_report(wildcards):
    """The report of a step's imatrix."""
    return f"results/{wildcards.model}/imatrix/{wildcards.corpus}/{rung(wildcards)}.json"


def step_positions(wildcards):
    """The comparisons of a step's quantized models."""
    folder = f"results/{wildcards.model}/growth/{wildcards.corpus}"
    return [f"{folder}/{kind}@{rung(wildcards)}.{JUDGE}.h5" for kind in GROWTH["types"]]


def earlier_steps(wildcards):
    """What a step compares with."""
    folder = f"results/{wildcards.model}/growth/{wildcards.corpus}/{LADDER}"
    return [f"{folder}/{step}.h5" for step in range(int(wildcards.step))]


def steps_made(wildcards):
    """The facts of all steps that the stop rule asks for, in order.

    Each step is a checkpoint: where one is missing or stale, Snakemake makes it and asks again.
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
        if decide(
            steps,
            min_gain=GROWTH["min_gain"],
            patience=GROWTH["patience"],
            last=windows is None,
        ).stop:
            return paths


def step_imatrices(wildcards):
    """The imatrix of each of those steps."""
    made = islice(rungs(), len(steps_made(wildcards)))
    folder = f"results/{wildcards.model}/imatrix/{wildcards.corpus}"
    return [f"{folder}/{windows}.gguf" for windows in made]


def step_reports(wildcards):
    """Their reports."""
    return [path.removesuffix("gguf") + "json" for path in step_imatrices(wildcards)]


def types_without_imatrix(wildcards):
    """The judging types that llama.cpp quantizes without an imatrix."""
    return [kind for kind in GROWTH["types"] if not recipes.needs_imatrix(kind)]


def levels_without_imatrix(wildcards):
    """The comparisons of those types without one."""
    folder = f"results/{wildcards.model}/growth/{wildcards.corpus}"
    return [f"{folder}/{kind}@none.{JUDGE}.json" for kind in types_without_imatrix(wildcards)]


def stop_options(wildcards):
    """The settings of the stop rule as options of the command."""
    options = f"--min-gain {GROWTH['min_gain']} --patience {GROWTH['patience']}"
    return options
