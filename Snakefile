"""Quern: find the best GGUF quantization of a language model, and prove it.

Configuration in config/config.yaml; see config/README.md for every key.
"""

from snakemake.utils import min_version

min_version("9.27")


# With --configfile, the user's configuration takes the place of the demo's. So a job on a cluster,
# which Snakemake tells of --configfile and of no other option, reads the same.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


# In the order in which data flows. Each stage says in its own file what the user reads of it.
include: "rules/common.smk"
include: "rules/costs.smk"
include: "rules/slurm.smk"
include: "rules/models.smk"
include: "rules/corpora.smk"
include: "rules/axes.smk"
include: "rules/baseline.smk"
include: "rules/moments.smk"
include: "rules/quantize.smk"
include: "rules/foreign.smk"
include: "rules/calibrations.smk"
include: "rules/imatrix.smk"
include: "rules/mix.smk"
include: "rules/compare.smk"
include: "rules/perplexity.smk"
include: "rules/grow.smk"
include: "rules/memory.smk"
include: "rules/speed.smk"
include: "rules/tuning.smk"
include: "rules/report.smk"
include: "rules/studies.smk"
include: "rules/answer.smk"
include: "rules/release.smk"
include: "rules/readable.smk"
include: "rules/plan.smk"


rule all:
    """All that the user reads: summaries, pictures of the imatrices, how they grew."""
    default_target: True
    input:
        READ,
