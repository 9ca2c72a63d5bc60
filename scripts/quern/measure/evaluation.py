"""Evaluations: what models are measured on. A corpus as it is, or with a context and windows of its
own. Pure, since the rules read it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

BASELINE = ("n_ctx", "windows", "scored", "store", "logits_type", "embed_output")


@dataclass(frozen=True)
class Evaluation:
    """What a baseline keeps, and a comparison looks at.

    Attributes:
        corpus: whose tokens they are.
        part: `evaluation` or `pool`.
        n_ctx: tokens per window.
        windows: how many there are at most; None for all of them.
        scored: `half` or `all` positions of a window.
        store, logits_type, embed_output: how the baseline is kept, see `baseline.py`.
    """

    corpus: str
    part: str = "evaluation"
    n_ctx: int = 512
    windows: int | None = None
    scored: str = "half"
    store: str = "auto"
    logits_type: str = "float32"
    embed_output: bool = False

    @property
    def options(self) -> dict:
        """What decides the baseline besides its tokens, by the command's options."""
        return {name: getattr(self, name) for name in BASELINE}


def evaluations_of(config: Mapping) -> dict[str, Evaluation]:
    """All evaluations of a configuration, by name: each corpus by its own, then `evaluations`."""
    known = {field.name for field in fields(Evaluation)}
    shared = {key: value for key, value in config["evaluation"].items() if key in known}
    found = {name: Evaluation(name, **shared) for name in config["corpora"]}
    return found | {
        name: Evaluation(**shared | entry) for name, entry in config["evaluations"].items()
    }
