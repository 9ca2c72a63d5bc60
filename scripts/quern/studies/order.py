"""Order: the same tokens as calibration, in the order of their documents and in random ones."""

from collections.abc import Mapping

from .plan import Plan, usual_calibration, usual_evaluation

ORDERED = "documents"  # the order that needs no seed, and that the others are held against


def plan(name: str, settings: Mapping, config: Mapping) -> Plan:
    """Each order with each seed; that of the documents once.

    Raises:
        QuernError: the corpus is not there, the tokens are too few.
    """
    study = Plan(name, settings)
    corpus = settings["corpus"]
    study.require_corpus("corpus", corpus, config)
    windows = study.windows("calibration_tokens", config["imatrix"]["n_ctx"])
    evaluated = study.windows("evaluation_tokens", config["evaluation"]["n_ctx"])
    evaluation = study.evaluation("eval", usual_evaluation(corpus, config, windows=evaluated))
    for order in dict.fromkeys([ORDERED, *settings["orders"]]):
        for seed in range(1 if order == ORDERED else settings["seeds"]):
            calibration = study.calibration(
                order if order == ORDERED else f"{order}-{seed}",
                usual_calibration(corpus, config, windows=windows, order=order, seed=seed),
            )
            for kind in settings["types"]:
                study.cell(kind, calibration, evaluation, {"order": order, "seed": seed})
    return study
