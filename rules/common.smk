"""What all rules share: the checked configuration, and what results depend on.

Functions stand above the rules that use them. Their parameters stand on lines of their own, since
`snakemake --lint` wants all functions of one line away from the rules.
"""

import contextlib
import hashlib
import json
import math
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
from quern.content import ContentHashes
from quern.files import shards

# Where rules run a model under `--sdm conda`; `quern-cuda` has a llama.cpp for NVIDIA GPUs.
MODEL_ENVIRONMENT = f"../envs/{os.getenv('QUERN_ENVIRONMENT', 'quern')}.yaml"
# What the user reads. Each stage adds to it, and `all` asks for it.
READ = []
HASHES = Path("results/.content.json")
CONTENT = ContentHashes(HASHES)
# Jobs run on other machines.
ELSEWHERE = workflow.is_main_process and workflow.resource_settings.nodes is not None
# On this machine, Snakemake would run any number of GPU jobs at once unless the number is limited.
# On a cluster, which is a number of nodes, the cluster limits it.
if workflow.is_main_process and not ELSEWHERE:
    workflow.global_resources.setdefault("gpu", 1)


@contextlib.contextmanager
def sentences():
    """What is wrong with the configuration ends the run with a sentence and no traceback."""
    try:
        yield
    except QuernError as error:
        raise WorkflowError(str(error)) from None


CONFIG_FILES = [*workflow.configfiles, *workflow.overwrite_configfiles]
with sentences():
    configuration.check(
        config,
        yaml.safe_load((HOUSE / "config/config.schema.yaml").read_text()),
        CONFIG_FILES,
        workflow.config_settings.config,
    )


# A job on another machine refuses to work with another configuration than the run that sent it, whose
# environment it inherits.
SETTLED = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()
os.environ.update(QUERN_SNAKEMAKE=str(os.getpid()))  # commands end when it is gone
if workflow.is_main_process:
    os.environ.update(QUERN_CONFIGURATION=SETTLED)
elif os.getenv("QUERN_CONFIGURATION", SETTLED) != SETTLED:
    raise WorkflowError(
        "this job reads another configuration than the run that sent it; do not change the files "
        "of a configuration while they are in use, and run again."
    )


def hashes_of_models(paths):
    """SHA-256 of users' models; a large one is not read where this machine only sends jobs."""
    for path in paths if ELSEWHERE else ():
        if CONTENT.must_read(path):
            raise WorkflowError(
                f"{path} is large and was not hashed yet, which would be done on this machine; "
                "`snakemake hashed`, with the same options, does it in a job."
            )
    return [CONTENT.of(path) for path in paths]


def require(condition, keys, message):
    """Refuse the configuration for what stands at these keys."""
    if not condition:
        raise configuration.wrong(keys, message, CONFIG_FILES, workflow.config_settings.config)


def require_corpus(keys, name):
    """Refuse keys that name a corpus which is not there."""
    require(name in config["corpora"], keys, configuration.unknown(name, config["corpora"]))


def require_file(keys, path):
    """Refuse keys that name a file which is not there, or which cannot be named in a rule."""
    require_name(keys, path)
    require(Path(path).is_file(), keys, f"{path} does not exist, or is no file")


def require_name(keys, path):
    """Refuse a path that Snakemake or a command would take for something else."""
    require(
        not set("{}") & set(str(path)),
        keys,
        f"{path} has braces, which stand for wildcards in Snakemake; rename it, or link to it",
    )
    require(not str(path).startswith("-"), keys, f"{path} looks like an option; write ./{path}")


def said_of(keys, function, *arguments):
    """Call a function of the library; what it refuses is what stands at these keys."""
    try:
        return function(*arguments)
    except QuernError as error:
        require(False, keys, str(error).rstrip("."))


with sentences():
    for name in config["corpora"]:
        others = [other for other in config["corpora"] if name.startswith(f"{other}.")]
        require(
            not others,
            ["corpora", name],
            f"this name and {', '.join(others)} can be confused in names of files; give one of them "
            "a dash in place of the dot",
        )


def one_of(names):
    """A constraint to these names, or to `none` where there are none."""
    return "|".join(re.escape(name) for name in names) or "none"


wildcard_constraints:
    model=one_of(config["models"]),
    corpus=one_of(config["corpora"]),
    share=r"\d+of\d+",


def script_path(name):
    """A script's path from the working directory, so that a moved folder makes nothing stale.

    Like users' files it is `local`: it is read here also where results go to a storage.
    """
    return local(os.path.relpath(HOUSE / "scripts" / name))


def code(name):
    """A hash of the code behind a script, so that a change in it makes results stale.

    Who runs a job that was sent asks for none: what is stale is decided already.
    """
    return fingerprint.code(HOUSE / "scripts" / name) if workflow.is_main_process else None


def templates(room):
    """What a room's pages are made of, by content: no import leads to it, so it is no code."""
    folder = HOUSE / "scripts/quern" / room / "templates"
    return {path.name: CONTENT.of(path) for path in sorted(folder.iterdir())}


def model_path(wildcards):
    """The model's file: as the user named it, or as it will be once it is fetched or converted."""
    return MODEL_FILES[wildcards.model]


def size_of(path):
    """Bytes of a model on disk, all shards; 0 where it is missing."""
    return sum(p.stat().st_size for p in shards(Path(path)) if p.is_file())


def model_size(wildcards):
    """Bytes of the unquantized model on disk."""
    return size_of(model_path(wildcards))
