"""Quern: find the best GGUF quantization of a language model, and prove it.

Configuration in config/config.yaml; see config/README.md for every key.
"""

from snakemake.utils import min_version

min_version("9.27")


configfile: "config/config.yaml"


include: "rules/common.smk"
include: "rules/models.smk"
include: "rules/corpora.smk"
include: "rules/baseline.smk"
include: "rules/ladder.smk"
include: "rules/imatrix.smk"
include: "rules/quantize.smk"
include: "rules/compare.smk"
include: "rules/grow.smk"
include: "rules/report.smk"
include: "rules/rounding.smk"


rule all:
    """The summary of every model on every evaluation corpus."""
    default_target: True
    input:
        expand(
            "results/{model}/summary/{corpus}.{ending}",
            model=config["models"],
            corpus=config["evaluation"]["corpora"],
            ending=["csv", "md", "png"],
        ),
        expand(
            "results/{model}/imatrix/{corpus}.png",
            model=config["models"],
            corpus=CALIBRATED,
        ),
        growth_reports(),


rule samples:
    """Only the samples that are fetched, on a machine with a network, before all else."""
    input:
        [f"results/raw/{name}.json" for name in FETCHED],


rule baselines:
    """Only the baseline stores."""
    input:
        expand(
            "results/{model}/baseline/{corpus}.h5",
            model=config["models"],
            corpus=config["evaluation"]["corpora"],
        ),


rule imatrices:
    """Only the importance matrices, grown if the configuration says so."""
    input:
        expand(
            "results/{model}/imatrix/{corpus}.gguf",
            model=config["models"],
            corpus=CALIBRATED,
        ),


rule quantized:
    """Only the quantized models."""
    input:
        expand(
            "results/{model}/quantize/{recipe}.gguf",
            model=config["models"],
            recipe=RECIPES,
        ),


rule roundings:
    """Only the tables of the roundings in the sweep."""
    input:
        expand(
            "results/{model}/rounding/{corpus}.md",
            model=config["models"],
            corpus=config["evaluation"]["corpora"],
        ),
