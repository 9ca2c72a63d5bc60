"""What the rules share: the checked configuration, the recipes, and what results depend on."""

import glob
import json
import os
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError

HOUSE = Path(str(workflow.current_basedir)).parent
sys.path.insert(0, str(HOUSE / "scripts"))
# Jobs run with the Python that runs Snakemake, unless an environment is activated for them.
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), os.getenv("PATH", os.defpath)])
)

from quern import QuernError, configuration, fingerprint
from quern.corpus import sources
from quern.files import shards
from quern.quantize import recipes


def checked_config():
    """Check the configuration, fill in its defaults; its recipes, and its corpora's sources."""
    schema = yaml.safe_load((HOUSE / "config/config.schema.yaml").read_text())
    files_of_config = [*workflow.configfiles, *workflow.overwrite_configfiles]
    try:
        configuration.check(config, schema, files_of_config)
        for corpus in config["evaluation"]["corpora"]:
            if corpus not in config["corpora"]:
                raise QuernError(f"evaluation.corpora: {corpus} is no corpus of the configuration.")
        growth = config["growth"] or {}
        if growth.get("corpus") and growth["corpus"] not in config["corpora"]:
            raise QuernError(
                f"growth.corpus: {growth['corpus']} is no corpus of the configuration."
            )
        if growth.get("eager") and not growth["largest_tokens"]:
            raise QuernError("growth.eager: all steps at once need an end; set largest_tokens.")
        return recipes.recipes_of(config), {
            name: [s for entry in corpus["sources"] for s in sources.expand(entry)]
            for name, corpus in config["corpora"].items()
        }
    except QuernError as error:
        raise WorkflowError(str(error)) from None


RECIPES, SOURCES = checked_config()
PLAIN = recipes.carried_out_by_llama(RECIPES)
ROUNDED = {name: recipe for name, recipe in RECIPES.items() if "rounding" in recipe}
# Recipes that are rounded, and what they are measured against: the same with ggml's rounding.
TABLED = {name: r for name, r in RECIPES.items() if recipes.has_rounded(RECIPES, name)}
# Corpora whose pools give an imatrix.
CALIBRATED = sorted({r["imatrix"] for r in RECIPES.values()} & set(config["corpora"]))
CONTENT = fingerprint.ContentHashes(Path("results/.content.json"))
for name, found in SOURCES.items():
    SOURCES[name] = [
        sources.with_content(s, CONTENT.of) if s.kind in sources.FETCHED else s for s in found
    ]
FETCHED = {
    # What a corpus does with its samples does not change them.
    sources.facts_name(source).removesuffix(".json"): replace(source, weight=None, part="")
    for found in SOURCES.values()
    for source in found
    if source.kind in sources.FETCHED
}
# Locally, Snakemake would run any number of GPU jobs at once unless the number is limited.
workflow.global_resources.setdefault("gpu", 1)


def one_of(names):
    return "|".join(re.escape(name) for name in names)


wildcard_constraints:
    model=one_of(config["models"]),
    corpus=one_of(config["corpora"]),
    judge=one_of(config["corpora"]),
    recipe=one_of({**RECIPES, **PLAIN}),
    plain=one_of(PLAIN),
    rounded=one_of(ROUNDED) or "none",
    part="evaluation|pool",
    raw=one_of({os.path.dirname(key) for key in FETCHED}) or "none",
    samples=r"\d+|all",


def script_path(name):
    """A script's path from the working directory, so that a moved folder makes nothing stale."""
    return os.path.relpath(HOUSE / "scripts" / name)


def code(name):
    """A hash of the code behind a script, so that a change in it makes results stale."""
    return fingerprint.code(HOUSE / "scripts" / name)


def model_path(wildcards):
    """The model's file, as the user named it."""
    return config["models"][wildcards.model]


def model_size(wildcards):
    """Bytes of the model on disk, all shards; 0 where it is missing."""
    return sum(p.stat().st_size for p in shards(Path(model_path(wildcards))) if p.is_file())


def memory(wildcards, attempt):
    """MB for a job that holds the model: its size, a context and some room."""
    return int(attempt * (model_size(wildcards) / 1e6 + 4000))


def minutes(wildcards, attempt):
    """Minutes for a job that runs the model over a few hundred windows on a CPU."""
    return int(attempt * (30 + 30 * model_size(wildcards) / 1e9))


def model_content(wildcards):
    """The model by content: touching it makes nothing stale, changing it does."""
    return {
        "code": code("model.py"),
        "sha256": [CONTENT.of(path) for path in shards(Path(model_path(wildcards)))],
    }


def local_files(source):
    """What a source to be fetched reads on this machine: a plugin, a data set's files."""
    return [str(path) for path in sources.local_files(source)]


def fetched_source(wildcards):
    """The source of some samples."""
    return FETCHED[f"{wildcards.raw}/{wildcards.samples}"]


def fetched_files(wildcards):
    """The files on this machine behind a source that is fetched."""
    return local_files(fetched_source(wildcards))


def fetch_settings(wildcards):
    """What samples depend on; the rest is in their path."""
    return {"code": code("fetch.py")}


def fetch_entry(wildcards):
    """A source to be fetched, as the command takes it."""
    return json.dumps(sources.entry_of(fetched_source(wildcards)))


def corpus_files(wildcards):
    """The files of a corpus's sources; a pattern that matches none stands for itself."""
    return [
        path
        for source in SOURCES[wildcards.corpus]
        if source.path and source.kind not in sources.FETCHED
        for path in sorted(glob.glob(source.path, recursive=True)) or [source.path]
    ]


def corpus_raw(wildcards):
    """The lists of samples that a corpus is made of."""
    return [
        f"results/raw/{sources.facts_name(source)}"
        for source in SOURCES[wildcards.corpus]
        if source.kind in sources.FETCHED
    ]


def corpus_settings(wildcards):
    """A corpus by its settings and the content of its files."""
    return {
        "code": code("corpus.py"),
        "settings": config["corpora"][wildcards.corpus],
        "sha256": [CONTENT.of(path) for path in corpus_files(wildcards)],
    }


def corpus_sources(wildcards):
    """The sources as the command takes them, one a language; samples by their lists."""
    return json.dumps(
        [
            sources.entry_of(
                replace(source, kind="raw", path=f"results/raw/{sources.facts_name(source)}")
                if source.kind in sources.FETCHED
                else source
            )
            for source in SOURCES[wildcards.corpus]
        ]
    )


def corpus_chat_template(wildcards):
    """The option that keeps conversations as they are, where a chat template renders them."""
    return "--chat-template" if config["corpora"][wildcards.corpus]["chat_template"] else ""


def token_settings(wildcards):
    """How a part is tokenized, besides what its corpus says."""
    return {"code": code("tokens.py"), "options": token_options(wildcards)}


def token_options(wildcards):
    """Options for special tokens, the chat template, and windows that are mixed."""
    corpus = config["corpora"][wildcards.corpus]
    options = []
    if wildcards.part == "pool" and config["imatrix"]["special_tokens"]:
        options += ["--special"]
    random_windows = wildcards.part == "pool" and corpus["order"] == "random-windows"
    if random_windows or any("weight" in source for source in corpus["sources"]):
        user = "imatrix" if wildcards.part == "pool" else "evaluation"
        options += ["--n-ctx", str(config[user]["n_ctx"])]
    if corpus["chat_template"]:
        options += ["--chat-template"]
    return shlex.join(options)


def comparison_until(wildcards):
    """The option that ends a comparison early, if the configuration asks for it."""
    until = config["evaluation"]["until"]
    return f"--until {until['figure']}={until['within']}" if until else ""


def recipe_settings(wildcards):
    """A recipe, its imatrix if that is a user's file, and the code that carries it out."""
    recipe = PLAIN[wildcards.plain]
    return {"code": code("quantize.py")} | recipe | imatrix_settings(recipe)


def imatrix_settings(recipe):
    """The content of an imatrix that is a user's file, and the policy for what it lacks."""
    path = config["imatrix"]["files"].get(recipe["imatrix"])
    content = {"sha256": CONTENT.of(path)} if path else {}
    policy = {"unreached": config["imatrix"]["unreached"]} if recipe["imatrix"] else {}
    return content | policy


def imatrix_of(model, recipe):
    """The imatrix of a recipe, if it has one: a user's file, or what is made of a corpus."""
    name = recipe["imatrix"]
    if name is None:
        return []
    if name in config["imatrix"]["files"]:
        return [ancient(config["imatrix"]["files"][name])]
    return [f"results/{model}/imatrix/{name}.gguf"]


def recipe_imatrix(wildcards):
    """What a recipe quantizes with."""
    return imatrix_of(wildcards.model, PLAIN[wildcards.plain])


def recipe_options(wildcards, input):
    """A recipe as options of the command."""
    return options_of(PLAIN[wildcards.plain], input)


def rounding_settings(wildcards):
    """A recipe's rounding and imatrix, and the code that carries it out."""
    recipe = ROUNDED[wildcards.rounded]
    return {"code": code("reround.py")} | recipe | imatrix_settings(recipe)


def rounding_source(wildcards):
    """What llama.cpp made, without the ending."""
    recipe = ROUNDED[wildcards.rounded]
    plain = recipes.unrounded(wildcards.rounded, recipe)
    return f"results/{wildcards.model}/quantize/{plain}"


def rounding_of(name):
    """The rounding of a recipe, and the name of the same recipe with ggml's own."""
    recipe = RECIPES[name]
    if "rounding" not in recipe:
        return recipes.GGML, name
    return recipe["rounding"], recipes.unrounded(name, recipe)


def rounding_model(wildcards):
    """The model that is rounded again."""
    return f"{rounding_source(wildcards)}.gguf"


def rounding_info(wildcards):
    """Its description."""
    return f"{rounding_source(wildcards)}.json"


def rounding_imatrix(wildcards):
    """What it was quantized with."""
    return imatrix_of(wildcards.model, ROUNDED[wildcards.rounded])


def rounding_options(wildcards, input):
    """A recipe's rounding as options of the command."""
    recipe = ROUNDED[wildcards.rounded]
    options = ["--rounding", recipe["rounding"]]
    if recipe["imatrix"]:
        options += ["--imatrix", *input.imatrix, "--prior", str(recipe.get("prior", 0))]
    return shlex.join(options)


def options_of(recipe, input):
    """A recipe as options of the command, with the imatrix among a job's inputs."""
    options = ["--type", recipe["type"]]
    if recipe["imatrix"]:
        options += ["--imatrix", *input.imatrix, "--unreached", config["imatrix"]["unreached"]]
        options += ["--prior", str(recipe.get("prior", 0))]
    options += ["--pure"] if recipe.get("pure") else []
    for key in ("output_type", "token_embedding_type"):
        if key in recipe:
            options += [f"--{key.replace('_', '-')}", recipe[key]]
    for pattern, kind in recipe.get("tensor_types", {}).items():
        options += ["--tensor-type", f"{pattern}={kind}"]
    return shlex.join(options)
