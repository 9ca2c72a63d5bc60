"""Data sets: calibrated on each of several corpora and on random text, evaluated on each corpus."""

from collections.abc import Mapping

from .plan import Plan, usual_calibration, usual_evaluation

NONE = "none"  # in place of a calibration's label


def plan(name: str, settings: Mapping, config: Mapping) -> Plan:
    """All calibrations and none, with all evaluations.

    Random text is made with the words of the first corpus.

    Raises:
        QuernError: a corpus is not there, the tokens are too few, a type needs an imatrix.
    """
    study = Plan(name, settings)
    corpora = settings["corpora"]
    for corpus in corpora:
        study.require_corpus("corpora", corpus, config)
    calibrated = study.windows("calibration_tokens", config["imatrix"]["n_ctx"])
    evaluated = study.windows("evaluation_tokens", config["evaluation"]["n_ctx"])
    calibrations: dict[str, str | None] = {
        corpus: study.calibration(
            f"cal-{corpus}", usual_calibration(corpus, config, windows=calibrated)
        )
        for corpus in corpora
    }
    for random in settings["random"]:
        own = usual_calibration(corpora[0], config, windows=calibrated, random=random)
        calibrations[random_label(random)] = study.calibration(random_label(random), own)
    study.texts.update(calibrations)
    calibrations[NONE] = None
    for corpus in corpora:
        evaluation = study.evaluation(
            f"eval-{corpus}", usual_evaluation(corpus, config, windows=evaluated)
        )
        for kind in settings["types"]:
            for label, calibration in calibrations.items():
                labels = {"calibration": label, "evaluation": corpus}
                study.cell(kind, calibration, evaluation, labels)
    return study


def random_label(random: str) -> str:
    """What tables call a random text."""
    return f"random-{random}"
