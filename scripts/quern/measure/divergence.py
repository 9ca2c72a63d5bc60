"""How far a quantized model strays from its baseline, position by position.

For a scored position with baseline probabilities p and quantized probabilities q:

- `kld` = KL(p ‖ q) in nats, as Σ p · (e^(−d) − 1 + d) with d = ln p − ln q. It equals
  Σ p · d because both sum to 1, and no term is negative.
- `nll_base`, `nll`: −ln of the true next token's probability, in nats.
- `dp`: q − p of the true token.
- `same_top`: whether both find the same token likeliest.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from . import kernels

FIGURES = {
    "kld": np.float64,
    "nll_base": np.float64,
    "nll": np.float64,
    "dp": np.float64,
    "same_top": np.uint8,
}
_AT_ONCE = 1 << 18  # logits that a thread works on at a time: they stay in its cache


def position_figures(
    base: np.ndarray, logits: np.ndarray, targets: np.ndarray, pool: ThreadPoolExecutor
) -> dict[str, np.ndarray]:
    """The figures of some positions; the same for each position whatever the others are.

    Args:
        base, logits: float32 [positions, n_vocab], of the baseline (also float16, or something
            that can be sliced into such arrays) and of the quantized model.
        targets: the true next tokens, int [positions].
        pool: threads to share the positions.

    Returns:
        The `FIGURES`, each [positions]. `kld` agrees with a float64 reference to 1e-6 relative or
        1e-9 absolute, and is NaN where a logit is not finite.
    """
    n, step = len(base), max(1, _AT_ONCE // logits.shape[1])
    out = {name: np.empty(n, dtype) for name, dtype in FIGURES.items()}

    def some(start):
        rows = slice(start, start + step)
        b, q = kernels.to_float32(base[rows]), logits[rows]
        base_top, top = b.argmax(1), q.argmax(1)
        kernels.divergence(
            *(b, q, base_top, top, targets[rows].astype(np.intp)),
            *(out["kld"][rows], out["nll_base"][rows], out["nll"][rows]),
        )
        out["same_top"][rows] = base_top == top

    list(pool.map(some, range(0, n, step)))
    out["dp"][:] = np.exp(-out["nll"]) - np.exp(-out["nll_base"])
    return out
