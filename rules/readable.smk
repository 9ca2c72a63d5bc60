"""The standard report: `snakemake --report report.html` shows what the user reads.

Needs: common, costs.
"""

from pathlib import Path

CAPTIONS = HOUSE / "rules/captions"
# That report shows pictures and HTML, and hands out all else as files.
DOCUMENTS = expand("results/corpora/{corpus}/corpus.md", corpus=config["evaluation"]["corpora"])
DOCUMENTS += [path for path in READ if path.endswith((".md", ".csv"))]


def in_report(document):
    """The HTML of a table or a text, as the standard report lists it: by stage, then by model."""
    _, model, stage, *rest = document.split("/")
    if model == "corpora":
        stage, model, rest = model, stage, [stage]
    caption = CAPTIONS / f"{stage}.rst"
    return report(
        f"results/html/{document.removeprefix('results/')}.html",
        caption=str(caption if caption.is_file() else CAPTIONS / "document.rst"),
        category=stage,
        subcategory=model,
        labels={"of": rest[0].partition(".")[0], "what": Path(document).name.partition(".")[2]},
    )


rule readable:
    """Tables and texts as HTML: they open in a browser, and their columns sort."""
    input:
        script=ancient(script_path("readable.py")),
        documents=DOCUMENTS,
    output:
        [in_report(document) for document in DOCUMENTS],
    log:
        "results/logs/html.log",
    benchmark:
        "results/benchmarks/html.tsv"
    localrule: True
    conda:
        "../envs/quern.yaml"
    threads: 1
    resources:
        **LIGHT,
    params:
        **decided("readable.py", templates=templates("report")),
    shell:
        "python {input.script:q} --log {log:q}"
        " --documents {input.documents:q}"
        " --output {output:q}"


READ += rules.readable.output
