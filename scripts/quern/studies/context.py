"""Context size: calibrated on windows of several sizes, evaluated on them, and both together."""

from collections.abc import Mapping

from .plan import Plan, usual_calibration, usual_evaluation


def plan(name: str, settings: Mapping, config: Mapping) -> Plan:
    """Each size as the calibration's at the base size, as the evaluation's, and as both.

    Raises:
        QuernError: a size does not divide the longest, or the tokens are too few for it.
    """
    base = base_context(settings, config)
    study = Plan(name, {**settings, "base": base})
    corpus, contexts = settings["corpus"], settings["contexts"]
    study.require_corpus("corpus", corpus, config)
    longest = max(contexts)
    for n in contexts:
        if longest % n:
            raise study.wrong("contexts", f"{n} does not divide the longest, {longest}")
    calibrations, evaluations = {}, {}
    for n in contexts:
        calibrations[n] = study.calibration(
            f"cal-{n}",
            usual_calibration(
                corpus, config, n_ctx=n, windows=study.windows("calibration_tokens", n)
            ),
        )
        evaluations[n] = study.evaluation(
            f"eval-{n}",
            usual_evaluation(
                *(corpus, config),
                n_ctx=n,
                windows=study.windows("evaluation_tokens", n),
                scored=settings["scored"],
            ),
        )
    sizes = [pair for n in contexts for pair in ((n, base), (base, n), (n, n))]
    for kind in settings["types"]:
        for calibrated, evaluated in dict.fromkeys(sizes):
            study.cell(
                kind,
                calibrations[calibrated],
                evaluations[evaluated],
                {"calibration": calibrated, "evaluation": evaluated},
            )
    return study


def base_context(settings: Mapping, config: Mapping) -> int:
    """The size that stays while another changes: the usual one of imatrices, or the first."""
    usual, contexts = config["imatrix"]["n_ctx"], settings["contexts"]
    return usual if usual in contexts else contexts[0]
