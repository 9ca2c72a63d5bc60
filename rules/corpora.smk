"""Corpora: documents from their sources, split in two; and their tokens."""


rule corpus:
    """Gather a corpus and split it, by whole documents, for evaluation and for calibration."""
    input:
        script=ancient(script_path("corpus.py")),
        sources=ancient(corpus_files),
    output:
        evaluation="results/corpora/{corpus}/evaluation.txt",
        pool="results/corpora/{corpus}/pool.txt",
        documents="results/corpora/{corpus}/documents.csv",
        facts="results/corpora/{corpus}/corpus.json",
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
        folder=subpath(output.facts, parent=True),
    shell:
        "python {input.script:q}"
        " --sources {params.sources:q}"
        " --evaluation-characters {params.settings[settings][evaluation_characters]}"
        " --seed {params.settings[settings][seed]}"
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
        special=special_tokens,
    shell:
        "python {input.script:q}"
        " --model {input.model:q}"
        " --info {input.info:q}"
        " --text {input.text:q}"
        " --documents {input.documents:q}"
        " {params.special}"
        " --output {output.tokens:q}"
        " --facts {output.facts:q}"
        " --log {log:q}"
