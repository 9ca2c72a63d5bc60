"""Subsampling: calibrated on the windows of a pool that a quantized model finds hardest, on the
easiest, on some at random, on all, on none."""

from collections.abc import Mapping

from ..imatrix.calibration import Selection
from .plan import Plan, usual_calibration, usual_evaluation

NONE, FULL = "none", "full"
WHICH = ("highest", "random", "lowest")


def plan(name: str, settings: Mapping, config: Mapping) -> Plan:
    """None, the pool, and of each rung of the ladder the highest, some at random, the lowest.

    Raises:
        QuernError: the corpus is not there, a rung is no part of the pool, a type needs an imatrix.
    """
    study = Plan(name, settings)
    corpus, pool = settings["corpus"], settings["pool_windows"]
    study.require_corpus("corpus", corpus, config)
    for k in settings["ladder"]:
        if k >= pool:
            raise study.wrong("ladder", f"{k} windows are not less than the pool's {pool}")
    evaluated = study.windows("evaluation_tokens", config["evaluation"]["n_ctx"])
    evaluation = study.evaluation("eval", usual_evaluation(corpus, config, windows=evaluated))
    ranked = study.evaluation(
        "pool",
        usual_evaluation(
            corpus, config, part="pool", n_ctx=config["imatrix"]["n_ctx"], windows=pool
        ),
    )
    judge = study.recipe(settings["judge"])
    full = study.calibration(FULL, usual_calibration(corpus, config, windows=pool))
    chosen = [(None, {"which": NONE}), (full, {"which": FULL, "windows": pool})]
    for k in settings["ladder"]:
        for which in WHICH:
            is_random = which == "random"
            for seed in range(settings["seeds"] if is_random else 1):
                select = Selection(ranked, k, which, None if is_random else judge)
                calibration = study.calibration(
                    f"{which}-{k}-{seed}" if is_random else f"{which}-{k}",
                    usual_calibration(corpus, config, seed=seed, select=select),
                )
                chosen.append((calibration, {"which": which, "windows": k, "seed": seed}))
    for kind in settings["types"]:
        for calibration, labels in chosen:
            study.cell(kind, calibration, evaluation, labels)
    return study
