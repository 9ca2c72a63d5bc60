"""What jobs ask for: time, memory and disk, by the formulas of `scripts/quern/cost`.

Each stage has a function of its own that gives the cost of a job, from its wildcards and the number
of its GPUs; `asked` makes a job's resources of it.
"""

import functools

from quern import files
from quern.cost import rates, stages
from quern.cost.shape import Shapes
from quern.cost.stages import Decoded
from quern.sizes import Size

SHAPES = Shapes(Path("results/.shapes.json"))


def shape_of(
    model,
):
    """The shape of an unquantized model."""
    return SHAPES.of(MODEL_FILES[model])


def gpus_of(
    rulename,
):
    """GPUs that a rule's jobs have, as the profile or `--set-resources` says."""
    found = workflow.get_rule(rulename).resources.get("gpu")
    return found.value or 0 if found and not found.is_evaluable() else 0


def memory(
    cost,
):
    """MB that a job asks for, as a resource; more where it is tried again."""

    def asked(wildcards, attempt, rulename):
        return cost(wildcards, gpus_of(rulename)).megabytes_asked(attempt)

    return asked


def minutes(
    cost,
):
    """Minutes that it asks for."""

    def asked(wildcards, threads, attempt, rulename):
        return cost(wildcards, gpus_of(rulename)).minutes_asked(threads, attempt)

    return asked


def seconds(
    cost,
):
    """Seconds that it is expected to take; nothing but the plan looks at them."""

    def expected(wildcards, threads, rulename):
        return math.ceil(cost(wildcards, gpus_of(rulename)).seconds(threads))

    return expected


def disk(
    cost,
):
    """MB that it writes."""

    def written(wildcards):
        return math.ceil(cost(wildcards).disk / 1e6)

    return written


@functools.cache
def source_bytes(
    corpus,
):
    """Bytes of a corpus's sources, of samples that are fetched by their number."""
    found = 0
    for source in SOURCES[corpus]:
        if source.kind in sources.FETCHED:
            found += (source.samples or 100_000) * rates.SAMPLE
        else:
            paths = sources.matching(source.path) if source.kind != "plugin" else []
            found += sum(os.path.getsize(path) for path in paths)
    return found


def text_bytes(
    corpus,
    part,
):
    """Bytes of a part's text; where it is not there yet, by the sizes of its sources."""
    path = Path(f"results/corpora/{corpus}/{part}.txt")
    if path.is_file():
        return path.stat().st_size
    whole = source_bytes(corpus)
    evaluated = min(config["corpora"][corpus]["evaluation_characters"], whole)
    return evaluated if part == "evaluation" else whole - evaluated


def tokens_of(
    model,
    corpus,
    part,
):
    """Tokens of a part; where they are not there yet, by the bytes of its text."""
    facts = Path(f"results/{model}/tokens/{corpus}.{part}.json")
    with contextlib.suppress(QuernError, KeyError):
        return files.read_json(facts)["tokens"]
    return text_bytes(corpus, part) / rates.BYTES_PER_TOKEN


def windows_of(
    model,
    corpus,
    part,
    n_ctx,
    windows,
    scored="half",
):
    """Windows of a part, at most so many, and the positions that are scored in each."""
    found = max(1, tokens_of(model, corpus, part) // n_ctx)
    positions = n_ctx - 1 - (n_ctx // 2 if scored == "half" else 0)
    return Decoded(min(found, windows or found), n_ctx, positions)


def evaluated_windows(
    model,
    name,
):
    """The windows of an evaluation."""
    e = EVALUATIONS[name]
    return windows_of(model, e.corpus, e.part, e.n_ctx, e.windows, e.scored)


def calibrated_windows(
    model,
    name,
):
    """The windows of a calibration."""
    c = CALIBRATIONS[name]
    if c.random:
        return Decoded(c.windows, c.n_ctx)
    windows = c.select.windows if c.select else c.windows
    return windows_of(model, c.corpus, "pool", c.n_ctx, windows)


def recipe_bytes(
    model,
    recipe,
):
    """Bytes of the file that a recipe makes, before it is made."""
    shape = shape_of(model)
    if recipe.like:
        return size_of(recipe.like)
    size = Size.parse(recipe.mix.size) if recipe.mix else Size(stock=recipe.type)
    if size.stock:
        return stages.quantized_bytes(shape, size.stock)
    return size.bytes or shape.weights * size.bits / 8


def measured_bytes(
    model,
    name,
):
    """Bytes of a recipe's file or a foreign model, or of the model itself."""
    if name in FOREIGN[model]:
        return size_of(FOREIGN[model][name])
    recipe = KNOWN.get(name) or PLAIN.get(name)
    return recipe_bytes(model, recipe) if recipe else shape_of(model).bytes
