"""Whether the weights of a file are another's, rounded.

A few rows of each matrix are compared. d is the share of their squares that the baseline's rows do
not explain: 1 − r², where r is the cosine between both. llama.cpp's own rounding of the same rows,
without importances, tells what the type costs. Measured on the demo, SmolLM2 135M and Gemma 3 270M
(both widened from quantized files, with noise of half a step), all matrices of each:

    Q8_0     Q6_K     Q4_K     Q4_1     Q2_K     IQ2_XS   IQ1_S    TQ1_0
    ≤ 7e-5   ≤ 4e-4   ≤ 0.006  ≤ 0.008  ≤ 0.08   ≤ 0.09   ≤ 0.24   ≤ 0.62

Importances raise d to 2.0 times that at most, of all of llama.cpp's types (Q6_K of SmolLM2, whose
largest importance is a million times the median; Gemma 3: 1.8). The search without importances
raises it to 1.6 times (IQ3_S). The files that both models were published as reach 1.5 (Q4_1) and
1.4 (Q4_K_M). On the demo importances drawn over orders of magnitude reached 2.3, `compensated` 1.8.
So three times is explained.

What is said then of both models with noise of a tenth of the weights' spread: every matrix of Q8_0,
Q6_K and Q5_K, a quarter of Q4_K's, 40 % of Q4_1's, none of Q3_K's or coarser ones. Of three tenths:
also every matrix of Q4_K, Q4_1 and Q3_K. Weights of the next layer have a d above 0.97; every
matrix of both models was refused with them, in every type.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import QuernError, llama
from ..ggml_types import TENSOR_TYPES
from ..gguf_files import GgufTensor, tensors_of

ROWS = 4  # of a matrix that are compared
TIMES = 3.0  # of the type's own d that other importances and other roundings may reach
SAID, REFUSED = 1e-4, 0.25  # what d may reach beyond that, until it is said, and refused
# Largest relative change when a number is rounded to a type.
_UNITS = {"F64": 2.0**-53, "F32": 2.0**-20, "F16": 2.0**-11, "BF16": 2.0**-8}
_SMALLEST = 2.0**-25  # half of the smallest number of F16


class Distance(NamedTuple):
    """How far a matrix is from the baseline's.

    Attributes:
        kind: its type.
        found, own: d of the file's rows, and of llama.cpp's rounding of the baseline's.
    """

    name: str
    kind: str
    found: float
    own: float

    @property
    def refused(self) -> bool:
        """Whether it is nearer to other weights than to the baseline's own rounding."""
        return self.found > min(TIMES * self.own + REFUSED, (1 + self.own) / 2)

    @property
    def excess(self) -> float:
        """d beyond what its type explains, in units of what is said; more than 1 is said."""
        return self.found / (TIMES * self.own + SAID)

    def __str__(self) -> str:
        found, own = (np.sqrt(1 - d) for d in (self.found, self.own))
        return (
            f"{self.name} ({self.kind}) correlates with the baseline's by {found:.4f}, where "
            f"rounding to its type leaves {own:.4f}"
        )


def notes(model: Path, baseline: Path) -> list[str]:
    """What should be known of a quantization's weights: sentences, none where all is as it should.

    Args:
        model, baseline: the GGUF files (first shards).

    Raises:
        QuernError: a matrix does not follow the baseline's at all.
    """
    own, wanted = tensors_of(model), tensors_of(baseline)
    names = [n for n in own if n in wanted and own[n].shape[0] == wanted[n].shape[0]]
    shared = [(own[name], wanted[name]) for name in names]
    return [*_of_matrices(shared, model, baseline), *_of_vectors(shared)]


def _of_matrices(shared: list, model: Path, baseline: Path) -> Iterator[str]:
    found = [_distance(*pair) for pair in shared if len(pair[0].shape) > 1]
    if refused := max((d for d in found if d.refused), key=lambda d: d.found, default=None):
        raise QuernError(f"{model} is not a quantization of {baseline}: its {refused}.")
    far = [d for d in found if d.excess > 1]
    if far:
        worst = max(far, key=lambda d: d.excess)
        yield (
            f"{len(far)} of {len(found)} matrices are farther from the baseline's than their types "
            f"explain; {worst}. It may be a quantization of another version of the model."
        )


def _of_vectors(shared: list) -> Iterator[str]:
    pairs = [pair for pair in shared if len(pair[0].shape) == 1 and pair[0].shape == pair[1].shape]
    found = {one.name: _beyond_rounding(one, other) for one, other in pairs}
    far = {name: change for name, change in found.items() if change}
    if far:
        worst = max(far, key=far.get)
        yield (
            f"{len(far)} of {len(found)} norms and biases differ from the baseline's by more than "
            f"rounding, {worst} by up to {far[worst]:.2%}. It may be a quantization of another "
            "version of the model."
        )


def _distance(tensor: GgufTensor, wanted: GgufTensor) -> Distance:
    rows = [t.n_elements // t.shape[0] for t in (tensor, wanted)]
    places = np.unique(np.linspace(0, min(rows) - 1, ROWS).round().astype(int))
    values, kind = _values(wanted, places), tensor.tensor_type.name
    found, own = _unexplained(_values(tensor, places), values), 0.0
    if found > SAID and not TENSOR_TYPES[kind].numbers:
        ones = np.ones(values.shape[1], np.float32)
        rounded = llama.dequantize_rows(kind, llama.quantize_rows(kind, values, ones))
        own = _unexplained(rounded, values)
    return Distance(tensor.name, kind, found, own)


def _beyond_rounding(tensor: GgufTensor, wanted: GgufTensor) -> float:
    """The largest change of a number in units of its size, 0 where rounding explains all."""
    one, other = (_values(t, np.array([0])).astype(np.float64) for t in (tensor, wanted))
    unit = max(_UNITS.get(t.tensor_type.name, 0.0) for t in (tensor, wanted))
    size, change = np.maximum(np.abs(one), np.abs(other)), np.abs(one - other)
    beyond = change > unit * size + _SMALLEST
    return float((change[beyond] / size[beyond]).max()) if beyond.any() else 0.0


def _values(tensor: GgufTensor, places: np.ndarray) -> np.ndarray:
    """Some rows of a tensor, of all its matrices one after the other; float32 [n, columns]."""
    data = tensor.data
    rows = data.reshape(-1, data.shape[-1])[places]
    if rows.dtype != np.uint8:
        return rows.astype(np.float32)
    return llama.dequantize_rows(tensor.tensor_type.name, rows)


def _unexplained(values: np.ndarray, wanted: np.ndarray) -> float:
    """1 − r²; 0 of rows that are all 0 in both, 1 of those that are in one."""
    one, other = (rows.astype(np.float64).ravel() for rows in (values, wanted))
    squares = (one @ one) * (other @ other)
    if not squares:
        return float(one.any() != other.any())
    return max(0.0, 1 - float(one @ other) ** 2 / squares)
