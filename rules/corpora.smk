"""Corpora: samples that are fetched, documents split in two, and their tokens."""


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
        settings=fetch_settings,
        source=fetch_entry,
        folder=subpath(output.facts, ancestor=2),
    shell:
        "python {input.script:q}"
        " --source {params.source:q}"
        " --output {params.folder:q}"
        " --log {log:q}"


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
        mem_mb=4000,
        runtime=60,
    params:
        settings=corpus_settings,
        sources=corpus_sources,
        chat_template=corpus_chat_template,
        folder=subpath(output.facts, parent=True),
    shell:
        "python {input.script:q}"
        " --sources {params.sources:q}"
        " --evaluation-characters {params.settings[settings][evaluation_characters]}"
        " --seed {params.settings[settings][seed]}"
        " --order {params.settings[settings][order]}"
        " --near-duplicates {params.settings[settings][near_duplicates]}"
        " --similarity {params.settings[settings][similarity]}"
        " {params.chat_template}"
        " --output {params.folder:q}"
        " --log {log:q}"


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
    log:
        "results/logs/{model}/tokens/{corpus}.{part}.log",
    benchmark:
        "results/benchmarks/{model}/tokens/{corpus}.{part}.tsv"
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        settings=token_settings,
        options=token_options,
    shell:
        "python {input.script:q}"
        " --model {input.model:q}"
        " --info {input.info:q}"
        " --text {input.text:q}"
        " --documents {input.documents:q}"
        " --corpus {input.corpus:q}"
        " {params.options}"
        " --output {output.tokens:q}"
        " --facts {output.facts:q}"
        " --log {log:q}"
