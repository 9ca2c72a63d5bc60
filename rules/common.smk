"""What all rules share: the checked configuration, and what results depend on.

Needs: nothing.
"""

import contextlib
import hashlib
import json
import os
import re
import sys
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError

HOUSE = Path(str(workflow.current_basedir)).parent
sys.path.insert(0, str(HOUSE / "scripts"))
# Jobs run with the Python that runs Snakemake, unless an environment is activated for them. Names of
# files and what a command says are UTF-8, whatever the locale.
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), os.getenv("PATH", os.defpath)]),
    PYTHONUTF8="1",
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
SCHEMA = yaml.safe_load((HOUSE / "config/config.schema.yaml").read_text(encoding="utf-8"))
with sentences():
    configuration.check(
        config,
        SCHEMA,
        CONFIG_FILES,
        workflow.config_settings.config,
    )
if sys.getfilesystemencoding() != "utf-8" and not str(config).isascii():
    raise WorkflowError(
        f"this locale's names of files are {sys.getfilesystemencoding()}, and the configuration has "
        "other letters; run `export PYTHONUTF8=1` first."
    )
require = configuration.Demands(CONFIG_FILES, workflow.config_settings.config)

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


with sentences():
    for name in config["corpora"]:
        others = [other for other in config["corpora"] if name.startswith(f"{other}.")]
        require.distinct(["corpora", name], others)


def one_of(names):
    """A constraint to these names, or to `none` where there are none."""
    return "|".join(re.escape(name) for name in names) or "none"


wildcard_constraints:
    model=one_of(config["models"]),
    corpus=one_of(config["corpora"]),
    share=r"\d+of\d+",


def for_models(pattern, **names):
    """Paths for each model and each of these names."""
    return expand(pattern, model=config["models"], **names)


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


def at(value, wildcards):
    """What is a value, or a function that gives it for a job's wildcards."""
    return value(wildcards) if callable(value) else value


def shown(path, stage, of, what="picture", model="{model}"):
    """A file that the standard report shows among those of its stage and model."""
    said, caption = {"of": of, "what": what}, f"captions/{stage}.rst"
    return report(path, caption=caption, category=stage, subcategory=model, labels=said)


def decided(script, options=None, given=(), **also):
    """Parameters of a rule by what decides its result, each a value or a function of the wildcards.

    Args:
        script: whose code counts.
        options: options of its command by name; they are listed nowhere else.
        given: optional inputs that are options where they are there. As inputs they count anyhow; one
            that is a user's file is among `options` as well, and counts by its content.
        also: what counts and is no option, such as templates.

    Returns:
        `settings`, one dictionary, since Snakemake compares parameters as a set; and where there are
        options, `options`, which Snakemake does not compare, since it is derived from inputs.
    """

    def settings(wildcards):
        counting = at(options or {}, wildcards)
        users = {name: counting[name] for name in given if counting.get(name)}
        content = {name: [CONTENT.of(p) for p in shards(Path(users[name]))] for name in users}
        besides = {name: at(value, wildcards) for name, value in also.items()}
        return {"code": code(script), "options": counting | content} | besides

    def words(wildcards, input):
        return flags(at(options or {}, wildcards) | {name: input.get(name) for name in given})

    return {"settings": settings} | ({"options": words} if options or given else {})


def rows(entries, *names):
    """A parameter: the rows of a table as its command takes them, in JSON.

    Args:
        entries: what to say of each row, or a function of the wildcards that gives it.
        names: inputs that have a file for each row.
    """

    def found(wildcards, input):
        files = zip(*(input.get(name) for name in names), strict=True)
        pairs = zip(at(entries, wildcards), files, strict=True)
        return json.dumps([entry | dict(zip(names, paths)) for entry, paths in pairs])

    return found
