"""Two axes of the stages: what models are measured on, and what imatrices are collected from.

Each has a name and a path of its own. A corpus stands for itself in both.

Needs: common, corpora.
"""

from quern.cost.stages import Decoded
from quern.imatrix.calibration import calibrations_of
from quern.measure.evaluation import baselines_of, cache_evaluations_of, evaluations_of
from quern.studies.kinds import plans
from quern.tokens.derivation import OF_DOCUMENTS

EVALUATIONS = evaluations_of(config)
CALIBRATIONS = calibrations_of(config)
# What `evaluation.kv` adds, by corpus and by name.
CACHES = cache_evaluations_of(config)
with sentences():
    for corpus, caches in CACHES.items():
        require(
            len(caches) > 1,
            ["evaluation", "kv", "flash"],
            "a quantized K/V cache needs flash attention, so nothing is left to compare; add auto",
        )
        taken = caches.keys() & {*EVALUATIONS, *CALIBRATIONS, *config["imatrix"]["files"]}
        said = f"it makes {', '.join(sorted(taken))}, and another has this name; rename that one"
        require(not taken, ["evaluation", "kv"], said)
        EVALUATIONS |= caches
    # What studies add to evaluations, calibrations and recipes, each a dictionary by name.
    PLANS = plans(config)
    for name, plan in PLANS.items():
        both = {**plan.evaluations, **plan.calibrations}.keys()
        taken = both & {*EVALUATIONS, *CALIBRATIONS, *config["imatrix"]["files"]}
        said = f"it makes {', '.join(sorted(taken))}, and another has this name; rename the study"
        require(not taken, ["studies", name], said)
        EVALUATIONS |= plan.evaluations
        CALIBRATIONS |= plan.calibrations
BASELINES = baselines_of(EVALUATIONS)
# What has a summary of its own.
EVALUATED = [*config["evaluation"]["corpora"], *config["evaluations"]]


def evaluated_windows(model, name):
    """The windows of an evaluation."""
    e = EVALUATIONS[name]
    return windows_of(model, e.corpus, e.part, e.n_ctx, e.windows, e.scored)


def calibrated_windows(model, name):
    """The windows of a calibration."""
    c = CALIBRATIONS[name]
    if c.random:
        return Decoded(c.windows, c.n_ctx)
    windows = c.select.windows if c.select else c.windows
    return windows_of(model, c.corpus, "pool", c.n_ctx, windows)


def require_context(keys, corpus, part, n_ctx):
    """Refuse a context that a part's windows cannot be cut for."""
    fixed = fixed_n_ctx(corpus, part)
    said = (
        f"the {part} of {corpus} is mixed from windows of {fixed} tokens, so n_ctx must be {fixed}"
    )
    require(fixed in (None, n_ctx), [*keys, "n_ctx"], said)


def require_selection(keys, calibration):
    """Refuse a selection whose evaluation is not of the calibration's pool."""
    name = calibration.select.evaluation
    require.known([*keys, "evaluation"], name, EVALUATIONS)
    evaluation = EVALUATIONS[name]
    require(
        (evaluation.part, evaluation.corpus, evaluation.n_ctx)
        == ("pool", calibration.corpus, calibration.n_ctx),
        [*keys, "evaluation"],
        f"{name} must be of the same windows: part pool, corpus {calibration.corpus}, n_ctx "
        f"{calibration.n_ctx}",
    )
    require(
        evaluation.windows is None or calibration.select.windows <= evaluation.windows,
        [*keys, "windows"],
        f"{name} has only {evaluation.windows} windows; choose fewer, or give it more",
    )


def with_keys(section, known):
    """Evaluations or calibrations, and the keys that answer for them: their own, or a study's."""
    own = [([section, name], known[name]) for name in config[section]]
    return own + [
        (["studies", name], added)
        for name, plan in PLANS.items()
        for added in getattr(plan, section).values()
    ]


with sentences():
    for section in ("evaluations", "calibrations"):
        for name in config[section]:
            keys = [section, name]
            require(name not in config["corpora"], keys, "a corpus has this name; choose another")
            require(
                name not in config["imatrix"]["files"],
                keys,
                "an imatrix file has this name; choose another",
            )
            require.known([*keys, "corpus"], config[section][name]["corpus"], config["corpora"])
    usual = EVALUATIONS[config["evaluation"]["corpora"][0]].objection
    require(not usual, ["evaluation", "flash"], usual)
    for keys, evaluation in with_keys("evaluations", EVALUATIONS):
        require(not evaluation.objection, [*keys, "flash"], evaluation.objection)
        require_context(keys, evaluation.corpus, evaluation.part, evaluation.n_ctx)
    for keys, calibration in with_keys("calibrations", CALIBRATIONS):
        require(not calibration.objection, keys, calibration.objection)
        if not calibration.random:
            require_context(keys, calibration.corpus, "pool", calibration.n_ctx)
        if calibration.order in OF_DOCUMENTS:
            whole = not config["corpora"][calibration.corpus]["chat_template"]
            require(
                whole and not fixed_n_ctx(calibration.corpus, "pool"),
                [*keys, "order"],
                "documents cannot be told apart where windows of a pool are mixed or a chat template "
                "is used; choose another order",
            )
        if calibration.select:
            require_selection([*keys, "select"], calibration)
    for section, names in (("evaluations", EVALUATIONS), ("calibrations", CALIBRATIONS)):
        for name in config[section]:
            others = [n for n in names if name.startswith(f"{n}.") or n.startswith(f"{name}.")]
            require.distinct([section, name], others)


wildcard_constraints:
    evaluation=one_of(EVALUATIONS),
    calibration=one_of(CALIBRATIONS),
