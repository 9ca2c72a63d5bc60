"""What all rules share: the checked configuration, and what results depend on.

Functions stand above the rules that use them. Their parameters stand on lines of their own, since
`snakemake --lint` wants all functions of one line away from the rules.
"""

import contextlib
import os
import re
import sys
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
from quern.command import flags
from quern.files import shards

# What the user reads. Each stage adds to it, and `all` asks for it.
READ = []
CONTENT = fingerprint.ContentHashes(Path("results/.content.json"))
# Locally, Snakemake would run any number of GPU jobs at once unless the number is limited.
workflow.global_resources.setdefault("gpu", 1)


@contextlib.contextmanager
def sentences():
    """What is wrong with the configuration ends the run with a sentence and no traceback."""
    try:
        yield
    except QuernError as error:
        raise WorkflowError(str(error)) from None


with sentences():
    configuration.check(
        config,
        yaml.safe_load((HOUSE / "config/config.schema.yaml").read_text()),
        [*workflow.configfiles, *workflow.overwrite_configfiles],
    )


def require_corpus(key, name):
    """Refuse a key of the configuration that names a corpus which is not there."""
    if name not in config["corpora"]:
        raise QuernError(f"{key}: {name} is no corpus of the configuration.")


def one_of(names):
    """A constraint to these names, or to `none` where there are none."""
    return "|".join(re.escape(name) for name in names) or "none"


wildcard_constraints:
    model=one_of(config["models"]),
    corpus=one_of(config["corpora"]),


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
