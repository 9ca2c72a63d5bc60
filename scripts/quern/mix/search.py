"""The mix for a size: damages and errors become choices, are solved, proved, and written down."""

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import special

from .. import QuernError, RecipeError, rounding
from ..ggml_types import RIVAL_TYPES, TENSOR_TYPES, UNQUANTIZED, needs_imatrix
from ..gguf_files import GgufTensor, ModelInfo
from ..measure import statistics
from ..quantize.type_files import base_of
from ..sizes import Size
from . import proof
from .choices import FreeTensor, padded
from .editing import Editor
from .inputs import ANY_MIX, Inputs
from .solve import LEAST, TypeChoice, solve

log = logging.getLogger("quern.mix")

OURS = "mix"
RIVALS = 3  # stock mixes beside which a mix is proved, at most
CLOSE = 3.0  # times the predicted damage, within which a stock mix is a rival


def stock_plans(inputs: Inputs) -> dict[str, dict[str, str]]:
    """The types of all tensors in each stock mix that llama.cpp makes of a model."""
    possible = [kind for kind in RIVAL_TYPES if inputs.importances or not needs_imatrix(kind)]
    return {kind: inputs.planned(kind) for kind in possible}


def plan_bytes(plan: Mapping[str, str], tensors: Mapping[str, GgufTensor]) -> int:
    """Bytes of all tensors in a file, with what pads them."""
    total = 0
    for name, kind in plan.items():
        total += padded(TENSOR_TYPES[kind].bytes_of(int(tensors[name].n_elements)))
    return total


def budget_of(
    size: Size, info: ModelInfo, header: int, plans: Mapping[str, Mapping[str, str]], tensors
) -> int:
    """The bytes that all tensors together may have.

    Args:
        header: bytes of a file before its tensors' data.

    Raises:
        RecipeError: llama.cpp makes no such stock mix of the model.
    """
    if size.bytes:
        return size.bytes - header
    if size.bits:
        return int(size.bits * info.parameters / 8)
    if size.stock not in plans:
        raise RecipeError(
            f"llama.cpp makes no {size.stock} of this model with what is given; it makes "
            f"{', '.join(plans)}."
        )
    return plan_bytes(plans[size.stock], tensors)


class Damages:
    """The share of the divergence that each tensor has in each type.

    Args:
        measured: nats [windows] in the probe type, by tensor; as `damage.read` gives them.
        ratios: squared errors over that of the probe, by type, by tensor; as `errors.table` does.
        unused: tensors that no graph reads; they have none.

    Raises:
        QuernError: a tensor lacks one of them, or a damage is not finite.
    """

    def __init__(
        self,
        measured: Mapping[str, np.ndarray],
        ratios: Mapping[str, Mapping[str, float]],
        unused: Collection[str] = (),
    ):
        for name, values in measured.items():
            if not (np.isfinite(values).all() and (values >= 0).all()):
                raise QuernError(f"the damage of {name} is not finite; measure it again.")
        self._measured, self._ratios, self.unused = measured, ratios, unused

    def of(self, name: str, kind: str) -> np.ndarray:
        """In a type, nats [windows]."""
        if kind in UNQUANTIZED or name in self.unused:
            return np.zeros(len(next(iter(self._measured.values()), np.zeros(1))))
        if name not in self._measured or kind not in self._ratios.get(name, {}):
            raise QuernError(f"there is no damage of {name} in {kind}; measure it.")
        return self._measured[name] * self._ratios[name][kind]

    def in_probe(self, name: str) -> float | None:
        """In the probe type, nats; None where it was not measured."""
        if name in self.unused:
            return 0.0
        return float(self._measured[name].mean()) if name in self._measured else None

    def knows(self, plan: Mapping[str, str], names: Sequence[str]) -> bool:
        """Whether it has the damage of all these tensors in a plan."""
        return all(
            plan[name] in UNQUANTIZED
            or name in self.unused
            or plan[name] in self._ratios.get(name, {})
            for name in names
        )

    def predicted(self, plan: Mapping[str, str], names: Sequence[str]) -> dict[str, float]:
        """The divergence of a plan over these tensors, nats, and its 95 % interval over windows."""
        totals = sum(self.of(name, plan[name]) for name in names)
        n = len(totals)
        half = special.stdtrit(n - 1, 0.975) * totals.std(ddof=1) / np.sqrt(n)
        value = float(totals.mean())
        return {"kld": value, "low": max(0.0, value - float(half)), "high": value + float(half)}


def choose(tensors: Sequence[FreeTensor], damages: Damages, budget: int) -> dict[str, str]:
    """The type of each tensor, of the least predicted damage within bytes of them together."""
    choices = {
        t.name: [TypeChoice(k, t.bytes_as(k), float(damages.of(t.name, k).mean())) for k in t.types]
        for t in tensors
    }
    return {name: choice.type for name, choice in solve(choices, budget).items()}


def search(
    inputs: Inputs,
    free: Sequence[FreeTensor],
    plans: Mapping[str, Mapping[str, str]],
    damages: Damages,
    size: Size,
    *,
    header: int,
    editor: Editor,
    measured_on: np.ndarray,
    held_back: np.ndarray,
    folder: Path,
) -> dict:
    """Find the mix for a size and prove it beside stock mixes of no more bytes.

    Where a stock mix has a credibly lower score on the windows held back, it is returned.

    Args:
        free: those whose types are chosen.
        plans: the types of all tensors in each stock mix.
        header: bytes of the file before its tensors' data.
        measured_on, held_back: int32 [n, n_ctx], windows on which damage was measured, and others.

    Returns:
        `chosen` (`mix` or a stock mix's name), `base`, the types of `tensors` with bytes and
        predicted damage, `predicted` and `measured` divergence (on the windows held back),
        `additivity` (what was measured over what was predicted, on the windows of the damages;
        None for `compensated`, which is predicted and not measured here), `rivals`.

    Raises:
        QuernError: no mix is small enough, or a damage is missing.
    """
    tensors, names = inputs.tensors, [t.name for t in free]
    kept = {n: k for n, k in next(iter(plans.values())).items() if n not in set(names)}
    budget = budget_of(size, inputs.info, header, plans, tensors)
    types = choose(free, damages, budget - plan_bytes(kept, tensors))
    predicted = {OURS: damages.predicted(types, names)}
    rivals = {}
    for kind, plan in plans.items():
        if plan_bytes(plan, tensors) <= budget and damages.knows(plan, names):
            predicted[kind] = damages.predicted(plan, names)
            rivals[kind] = predicted[kind]["kld"]
    close = [k for k, v in rivals.items() if v <= CLOSE * predicted[OURS]["kld"]]
    near = sorted(close, key=rivals.get)
    near = list(dict.fromkeys([*([size.stock] if size.stock in rivals else []), *near]))[:RIVALS]
    mixes = {OURS: types} | {k: {n: plans[k][n] for n in names} for k in near}
    both = np.concatenate([measured_on, held_back])
    read = [name for name in names if name not in damages.unused]
    if len(read) < len(names):
        log.warning(
            "no graph of llama.cpp reads %d tensors, %s among them (layers for drafting are such); "
            "they have the types of %s where fixed gives them no other",
            *(len(names) - len(read), min(damages.unused), ANY_MIX),
        )
    edits = {key: {name: own[name] for name in read} for key, own in mixes.items()}
    figures = proof.measure(editor, edits, both, folder)
    n = len(measured_on)
    found = {
        name: statistics.Sample({key: v[n:] for key, v in own.items()}).replicates
        for name, own in figures.items()
    }
    is_comparable = editor.how != rounding.COMPENSATED
    additivity = {
        name: float(own["kld"][:n].mean()) / max(predicted[name]["kld"], LEAST)
        if is_comparable
        else None
        for name, own in figures.items()
    }
    differences = proof.compared(found, OURS, near, "score")
    better = [k for k in near if differences[k]["verdict"] == "worse"]
    chosen = min(better, key=_score_of(found)) if better else OURS
    final = mixes[chosen]
    rows = {
        t.name: {
            "type": final[t.name],
            "bytes": t.bytes_as(final[t.name]),
            "weights": t.weights,
            "damage": float(damages.of(t.name, final[t.name]).mean()),
            "probe_damage": damages.in_probe(t.name),
        }
        for t in free
    }
    data = plan_bytes(kept | final, tensors)
    return {
        "size": size.label,
        "budget": budget,
        "tensor_bytes": data,
        "file_bytes": header + data,
        "chosen": chosen,
        "base": size.stock or base_of((final[t.name], t.weights) for t in free),
        "tensors": rows,
        "predicted": predicted[chosen],
        "measured": _figures(found[chosen]),
        "additivity": additivity[chosen],
        "rivals": {
            kind: {
                "bytes": plan_bytes(plans[kind], tensors),
                "predicted": predicted[kind],
                "measured": _figures(found[kind]),
                "additivity": additivity[kind],
                "mix_less_rival": differences[kind],
            }
            for kind in near
        },
    }


def _score_of(found):
    def score(name):
        return found[name].values["score"]

    return score


def _figures(replicates) -> dict:
    return {
        name: dict(zip(("low", "high"), replicates.interval(name), strict=True))
        | {"value": replicates.values[name]}
        for name in ("kld_mean", "score")
    }
