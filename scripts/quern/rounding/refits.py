"""Scales, factors and minima of all blocks of some rows, fitted to the codes that they have."""

import numpy as np
from scipy.linalg.blas import sgemm

from .kernels.compensation import Factors, refit

COLUMNS = 64  # whose scales are refitted before the others learn of it, or a block's


def refit_all(
    g: np.ndarray,
    a: np.ndarray,
    m: np.ndarray | None,
    q: np.ndarray,
    units: tuple[np.ndarray, np.ndarray],
    factors: Factors,
    moment: np.ndarray,
    size: int,
) -> int:
    """Refit them to where eᵀ H e is least; g, a and m are brought up to date.

    Args:
        g, a, m, q, moment: as for the kernel `refit`, of all columns; m is None without minima.
        units: (units, min_units) of the kernel.
        size: columns of a block.

    Returns:
        Of how many weights the value changed.
    """
    n, wide, changed = len(moment), max(size, COLUMNS), 0
    for begin in range(0, n, wide):
        own = slice(begin, min(begin + wide, n))
        blocks = slice(begin // size, own.stop // size)
        here = [np.array(x[:, own], order="C") for x in (g, a, a if m is None else m, q)]
        changes = np.empty_like(here[0])
        refit(
            *(*here, *(u[:, blocks] for u in units), m is not None, factors),
            *(np.ascontiguousarray(moment[own, own]), size, changes),
        )
        a[:, own] = here[1]
        if m is not None:
            m[:, own] = here[2]
        some = changes.any(axis=1)
        if some.all():  # g -= changes · moment, in place
            sgemm(-1, moment[own].T, changes.T, 1, g.T, overwrite_c=True)
        else:
            g[some] -= changes[some] @ moment[own]
        changed += np.count_nonzero(changes)
    return changed
