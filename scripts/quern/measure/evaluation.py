"""Evaluations: what models are measured on. A corpus as it is, or with a context and windows of its
own. Pure, since the rules read it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from ..ggml_types import UNQUANTIZED

BASELINE = ("n_ctx", "windows", "scored", "store", "logits_type")
CACHE = ("kv_type", "flash")
# Types of a cache that can do without flash attention.
WITHOUT_FLASH = frozenset(kind.lower() for kind in UNQUANTIZED)


@dataclass(frozen=True)
class Evaluation:
    """What a baseline keeps, and a comparison looks at, and how.

    Attributes:
        corpus: whose tokens they are.
        part: `evaluation` or `pool`.
        n_ctx: tokens per window.
        windows: how many there are at most; None for all of them.
        scored: `half` or `all` positions of a window.
        store, logits_type: how the baseline is kept, see `baseline.py`.
        kv_type: ggml's type of keys and values while a quantized model is compared. The baseline's
            is always f16.
        flash: flash attention then, `auto` (as llama.cpp chooses) or `none`.
    """

    corpus: str
    part: str = "evaluation"
    n_ctx: int = 512
    windows: int | None = None
    scored: str = "half"
    store: str = "auto"
    logits_type: str = "float32"
    kv_type: str = "f16"
    flash: str = "auto"

    @property
    def options(self) -> dict:
        """What decides the baseline besides its tokens, by the command's options."""
        return {name: getattr(self, name) for name in BASELINE}

    @property
    def objection(self) -> str:
        """What is wrong with it, or nothing."""
        if self.flash == "none" and self.kv_type not in WITHOUT_FLASH:
            return f"a cache of {self.kv_type} needs flash attention; take auto"
        return ""

    @property
    def cache(self) -> dict:
        """How a comparison keeps keys and values, by the command's options."""
        return {name: getattr(self, name) for name in CACHE}


def evaluations_of(config: Mapping) -> dict[str, Evaluation]:
    """All evaluations of a configuration, by name: each corpus by its own, then `evaluations`."""
    known = {field.name for field in fields(Evaluation)}
    shared = {key: value for key, value in config["evaluation"].items() if key in known}
    found = {name: Evaluation(name, **shared) for name in config["corpora"]}
    return found | {
        name: Evaluation(**shared | entry) for name, entry in config["evaluations"].items()
    }


def cache_evaluations_of(config: Mapping) -> dict[str, dict[str, Evaluation]]:
    """What `evaluation.kv` adds to an evaluated corpus, by corpus: an evaluation for each cache.

    They differ in the cache alone, so they share a baseline. A quantized cache needs flash
    attention, so there is none without.
    """
    settings = config["evaluation"]["kv"]
    if not settings:
        return {}
    known, longer = evaluations_of(config), {key: settings[key] for key in ("n_ctx", "windows")}
    return {
        corpus: {
            f"{corpus}-kv-{kind}{'' if flash == 'auto' else '-without-flash'}": replace(
                known[corpus], **longer, kv_type=kind, flash=flash
            )
            for kind in settings["types"]
            for flash in settings["flash"]
            if flash == "auto" or kind in WITHOUT_FLASH
        }
        for corpus in config["evaluation"]["corpora"]
    }


def baselines_of(evaluations: Mapping[str, Evaluation]) -> dict[str, str]:
    """Whose baseline each takes, by name: that of the first that differs in the cache alone."""
    first: dict[tuple, str] = {}
    return {
        name: first.setdefault((e.corpus, e.part, *e.options.values()), name)
        for name, e in evaluations.items()
    }
