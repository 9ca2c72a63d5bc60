"""Rounding with the whole second moment: the error of one weight is made up by the others.

Let x be the input of a matrix, w a row of it, v its rounded values and H = (1/N) Σ x xᵀ. The
squared error of the row's output is (w − v)ᵀ H (w − v); an imatrix knows the diagonal of H alone.

1. *Shrink*: H ← H + ρ diag H. A column that was never read gets the mean of the diagonal.
2. *Factor*: H = R Rᵀ, R upper triangular, and U = R⁻¹ with each row divided by its diagonal.
3. *Feed back* (GPTQ, Frantar et al. 2022; LDLQ, Chee et al. 2023): columns are rounded in order,
   and what is left of the error of column i, δ_i, is taken from those after it: y_j −= δ_i U_ij.
   The loss is then Σ R_ii² δ_i². Scales and factors of a panel of 256 columns come from the search
   of `importance` on y as it is when the panel's turn comes, with weights R_ii²; when a block's
   turn comes, some around its own are carried through it with their feedback, and the best stays.
4. *Descend*: with e = w − v and g = H e, each code in turn goes to the level nearest to where the
   loss is least, and g is brought up to date. Between passes, in types without minima, so does each
   block's scale or sub-block's factor: a += qᵀg / qᵀHq. The loss never rises.

How far H is believed (ρ) is chosen for each tensor on some of its rows: fitted to the moment of one
half of the windows, judged by the other. Where `importance` is no worse there, it stays.

Types whose weights are looked up together begin at step 4, with what llama.cpp made of them.
Steps 1 and 2 are in `moment`, 3 and 4 in `feedback`.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from .. import blas
from .block_type import IMPORTANCE, Rows
from .moment import Factored, MomentHalves, loss
from .rows import TYPES, dequantize_rows, in_parts, round_rows

STRENGTHS = (0.05, 0.2, 1.0)  # ρ
SAMPLE = 64  # rows on which ρ is chosen
_AT_ONCE = 96  # rows that a thread takes at once


class Chosen(NamedTuple):
    """How far a moment is believed for a tensor.

    Attributes:
        strength: ρ; None where `importance` stays.
        ratio: the loss on the other half of the windows over that of `importance`.
    """

    strength: float | None
    ratio: float


def choose(kind: str, rows: Rows, halves: MomentHalves, *, threads: int = 1) -> Chosen:
    """Fit to the moment of even windows with each strength; judge by that of odd ones.

    Args:
        rows: some of a tensor's; importances are for `importance`.
    """

    def lost(raw):
        return loss(rows.values - dequantize_rows(kind, raw, rows.values.shape), halves.odd)

    def tried(strength):
        moment = halves.believed("even", strength, TYPES[kind].prepared)
        return lost(compensate(kind, rows, moment))

    plain = lost(round_rows(kind, IMPORTANCE, rows))
    with ThreadPoolExecutor(1 if halves.are_wide else threads) as pool:
        best, strength = min(zip(pool.map(tried, STRENGTHS), STRENGTHS, strict=True))
    if not best < plain:
        return Chosen(None, 1.0)
    return Chosen(strength, best / plain)


def compensate(
    kind: str, rows: Rows, moment: np.ndarray | Factored, *, threads: int = 1
) -> np.ndarray:
    """Round rows; the result does not depend on the number of threads.

    Args:
        kind: one of `TYPES`.
        moment: what `MomentHalves.believed` gives for the kind.

    Returns:
        The rows' bytes, uint8 [rows, bytes of a row].

    Raises:
        QuernError: the shapes do not fit.
    """
    found = TYPES[kind]

    def work(part):
        return found.compensated(part, moment)

    with blas.one_thread():
        return in_parts(work, found.checked(rows), _AT_ONCE, threads)
