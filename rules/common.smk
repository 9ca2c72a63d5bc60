"""What the rules share: the checked configuration, the recipes, and what results depend on."""

import os
import re
import sys
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError

HOUSE = Path(str(workflow.current_basedir)).parent
SCRIPTS = HOUSE / "scripts"
sys.path.insert(0, str(SCRIPTS))
# Jobs run with the Python that runs Snakemake, unless an environment is activated for them.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

from quern import QuernError, configuration, fingerprint
from quern.gguf_files import shards
from quern.recipes import recipes_of


def checked_recipes():
    """Check the configuration, fill in its defaults, and return its recipes by name."""
    schema = yaml.safe_load((HOUSE / "config/config.schema.yaml").read_text())
    sources = [*workflow.configfiles, *workflow.overwrite_configfiles]
    try:
        configuration.check(config, schema, sources)
        for corpus in config["evaluation"]["corpora"]:
            if corpus not in config["corpora"]:
                raise QuernError(f"evaluation.corpora: {corpus} is no corpus of the configuration.")
        return recipes_of(config)
    except QuernError as error:
        raise WorkflowError(str(error)) from None


RECIPES = checked_recipes()
CONTENT = fingerprint.ContentHashes(Path("results/.content.json"))
# Locally, Snakemake would run any number of GPU jobs at once unless the number is limited.
workflow.global_resources.setdefault("gpu", 1)


def one_of(names):
    return "|".join(re.escape(name) for name in names)


wildcard_constraints:
    model=one_of(config["models"]),
    corpus=one_of(config["corpora"]),
    recipe=one_of(RECIPES),
    part="evaluation|pool",


def code(script):
    """A hash of the code behind a script, so that a change in it makes results stale."""
    return fingerprint.code(SCRIPTS / script)


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
