"""Corpora: samples that are fetched, documents split in two, and their tokens.

Needs: common, costs, models.
"""

import contextlib
import functools
import json
import os
from dataclasses import replace
from pathlib import Path

from quern import QuernError, files
from quern.corpus import sources
from quern.cost import rates, stages
from quern.cost.stages import Decoded

with sentences():
    SOURCES = {
        name: [source for entry in corpus["sources"] for source in sources.expand(entry)]
        for name, corpus in config["corpora"].items()
    }
    for corpus, found in SOURCES.items():
        require.reads(["corpora", corpus, "sources"], sources.require_sense, found)
        for source in found:
            if source.kind == "plugin":
                require.file(["corpora", corpus, "sources"], source.path)
            elif source.kind not in sources.FETCHED:
                keys, paths = ["corpora", corpus, "sources"], sources.matching(source.path)
                require(paths, keys, f"no file matches {source.path} (source {source.label})")
                for path in paths:
                    require.name(keys, path)
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


wildcard_constraints:
    part="evaluation|pool",
    raw=one_of({os.path.dirname(key) for key in FETCHED}),
    samples=r"\d+|all",


def fetched_source(wildcards):
    """The source of some samples."""
    return FETCHED[f"{wildcards.raw}/{wildcards.samples}"]


def fetched_files(wildcards):
    """What it reads on this machine: a plugin, a data set's files."""
    return [local(str(path)) for path in sources.local_files(fetched_source(wildcards))]


def fetched_entry(wildcards, output):
    """The source as the command takes it; a plugin's options, which may be secret, stand in the
    environment.

    Snakemake compares no parameter that depends on the output, so a source's name is but a label.
    """
    entry, secrets = sources.hidden(sources.entry_of(fetched_source(wildcards)))
    os.environ.update(secrets)
    return json.dumps(entry)


rule fetch:
    """Fetch samples of one source and language; what is there is never fetched again."""
    input:
        script=ancient(script_path("fetch.py")),
        files=ancient(fetched_files),
    output:
        facts="results/raw/{raw}/{samples}.json",
    log:
        "results/logs/raw/{raw}/{samples}.log",
    benchmark:
        "results/benchmarks/raw/{raw}/{samples}.tsv"
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=600,
    params:
        **decided("fetch.py"),  # the rest is in the path
        source=fetched_entry,
        folder=subpath(output.facts, ancestor=2),
    shell:
        "python {input.script:q} --log {log:q}"
        " --source {params.source:q}"
        " --output {params.folder:q}"


def raw_path(source):
    """The list of a fetched source's samples."""
    return f"results/raw/{sources.facts_name(source)}"


def corpus_files(wildcards):
    """The files of a corpus's sources."""
    return [
        local(path)
        for source in SOURCES[wildcards.corpus]
        if source.path and source.kind not in sources.FETCHED
        for path in map(str, sources.matching(source.path))
    ]


def corpus_raw(wildcards):
    """The lists of samples that a corpus is made of."""
    found = SOURCES[wildcards.corpus]
    return [raw_path(source) for source in found if source.kind in sources.FETCHED]


def corpus_options(wildcards):
    """How a corpus is split: its settings, without its sources and what concerns its tokens alone."""
    apart = ("sources", "neutralize_special")
    settings = config["corpora"][wildcards.corpus]
    return {key: value for key, value in settings.items() if key not in apart}


def corpus_content(wildcards):
    """The content of a corpus's files."""
    return [CONTENT.of(path) for path in corpus_files(wildcards)]


def corpus_entries(wildcards):
    """A corpus's sources as the command takes them, one a language; samples by their lists."""
    return [
        sources.entry_of(
            replace(source, kind="raw", path=raw_path(source), options={})
            if source.kind in sources.FETCHED
            else source
        )
        for source in SOURCES[wildcards.corpus]
    ]


def corpus_unnamed(wildcards):
    """They without their names, which are labels."""
    return [entry | {"name": ""} for entry in corpus_entries(wildcards)]


def corpus_sources(wildcards, output):
    """They with their names, which Snakemake does not compare, see `fetched_entry`."""
    return json.dumps(corpus_entries(wildcards))


@functools.cache
def source_bytes(corpus):
    """Bytes of a corpus's sources, of samples that are fetched by their number."""
    found = 0
    for source in SOURCES[corpus]:
        if source.kind in sources.FETCHED:
            found += (source.samples or 100_000) * rates.SAMPLE
        else:
            paths = sources.matching(source.path) if source.kind != "plugin" else []
            found += sum(os.path.getsize(path) for path in paths)
    return found


def text_bytes(corpus, part):
    """Bytes of a part's text; where it is not there yet, by the sizes of its sources."""
    path = Path(f"results/corpora/{corpus}/{part}.txt")
    if path.is_file():
        return path.stat().st_size
    whole = source_bytes(corpus)
    evaluated = min(config["corpora"][corpus]["evaluation_characters"], whole)
    return evaluated if part == "evaluation" else whole - evaluated


def corpus_cost(wildcards, gpu=0):
    """All of the sources are read."""
    return stages.corpus(source_bytes(wildcards.corpus))


rule corpus:
    """Gather a corpus and split it, by whole documents, for evaluation and for calibration."""
    input:
        script=ancient(script_path("corpus.py")),
        sources=ancient(corpus_files),
        raw=corpus_raw,
    output:
        evaluation="results/corpora/{corpus}/evaluation.txt",
        pool="results/corpora/{corpus}/pool.txt",
        documents="results/corpora/{corpus}/documents.csv",
        facts="results/corpora/{corpus}/corpus.json",
        report="results/corpora/{corpus}/corpus.md",
    log:
        "results/logs/corpora/{corpus}.log",
    benchmark:
        "results/benchmarks/corpora/{corpus}.tsv"
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        **asked(corpus_cost),
    params:
        **decided("corpus.py", corpus_options, sha256=corpus_content, sources=corpus_unnamed),
        sources=corpus_sources,
        folder=subpath(output.facts, parent=True),
    shell:
        "python {input.script:q} --log {log:q}"
        " --sources @/dev/fd/3"
        " {params.options}"
        " --output {params.folder:q}"
        " 3<<< {params.sources:q}"


def fixed_n_ctx(corpus, part):
    """The context that a part's windows are mixed for; None where any may be cut."""
    entry, is_pool = config["corpora"][corpus], part == "pool"
    weighted = any("weight" in source for source in entry["sources"])
    mixed = weighted or (is_pool and entry["order"] == "random-windows")
    return config["imatrix" if is_pool else "evaluation"]["n_ctx"] if mixed else None


def token_options(wildcards):
    """Special tokens, the chat template, and windows that are mixed."""
    corpus = config["corpora"][wildcards.corpus]
    return {
        "special": wildcards.part == "pool" and config["imatrix"]["special_tokens"],
        "n_ctx": fixed_n_ctx(wildcards.corpus, wildcards.part),
        "chat_template": corpus["chat_template"],
        "neutralize_special": corpus["neutralize_special"],
    }


def tokens_cost(wildcards, gpu=0):
    """A part's text, by a model's vocabulary."""
    text = text_bytes(wildcards.corpus, wildcards.part)
    return stages.tokens(shape_of(wildcards.model), text)


rule tokens:
    """Tokenize one part of a corpus, once per model."""
    input:
        script=ancient(script_path("tokens.py")),
        model=ancient(model_path),
        info="results/{model}/model.json",
        text=ancient("results/corpora/{corpus}/{part}.txt"),
        corpus="results/corpora/{corpus}/corpus.json",
        documents=ancient("results/corpora/{corpus}/documents.csv"),
    output:
        tokens="results/{model}/tokens/{corpus}.{part}.h5",
        facts="results/{model}/tokens/{corpus}.{part}.json",
        sources="results/{model}/tokens/{corpus}.{part}.csv",
    log:
        "results/logs/{model}/tokens/{corpus}.{part}.log",
    benchmark:
        "results/benchmarks/{model}/tokens/{corpus}.{part}.tsv"
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        **asked(tokens_cost),
    params:
        **decided("tokens.py", token_options),
    shell:
        "python {input.script:q} --log {log:q}"
        " --model {input.model:q}"
        " --info {input.info:q}"
        " --text {input.text:q}"
        " --documents {input.documents:q}"
        " --corpus {input.corpus:q}"
        " {params.options}"
        " --output {output.tokens:q}"
        " --facts {output.facts:q}"
        " --sources {output.sources:q}"


def with_facts(model, text):
    """The tokens of a text as inputs of a job: they are large, so what is known of them counts."""
    stem = f"results/{model}/tokens/{text}"
    return {"tokens": ancient(f"{stem}.h5"), "facts": f"{stem}.json"}


def tokens_of(model, corpus, part):
    """Tokens of a part; where they are not there yet, by the bytes of its text."""
    facts = Path(f"results/{model}/tokens/{corpus}.{part}.json")
    with contextlib.suppress(QuernError, KeyError):
        return files.read_json(facts)["tokens"]
    return text_bytes(corpus, part) / rates.BYTES_PER_TOKEN


def windows_of(model, corpus, part, n_ctx, windows, scored="half"):
    """Windows of a part, at most so many, and the positions that are scored in each."""
    found = max(1, tokens_of(model, corpus, part) // n_ctx)
    positions = n_ctx - 1 - (n_ctx // 2 if scored == "half" else 0)
    return Decoded(min(found, windows or found), n_ctx, positions)


rule samples:
    """Only the samples that are fetched, on a machine with a network, before all else."""
    input:
        [f"results/raw/{name}.json" for name in FETCHED],
