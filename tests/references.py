"""The optimum, found slowly in float64: what the tests and the benchmark hold `exact` against."""

import numpy as np
from numba import njit

COMPILE = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(**COMPILE)
def _nearest(y, levels):
    low, high = 0, levels.size - 1
    while high - low > 1:
        middle = (low + high) // 2
        if levels[middle] <= y:
            low = middle
        else:
            high = middle
    return levels[low] if y - levels[low] <= levels[high] - y else levels[high]


@njit(**COMPILE)
def least_errors(x, w, levels):
    """The least weighted squared error of each block, over all codes and scales.

    All scales at which a code steps are enumerated, of both signs.

    Args:
        x, w: float64 [blocks, size], values and weights.
        levels: float64, increasing; one of them is the nearest to 0.

    Returns:
        float64 [blocks].
    """
    blocks, size = x.shape
    least = np.empty(blocks)
    room = size * levels.size
    steps, of_a, of_b = np.empty(room), np.empty(room), np.empty(room)
    middle = np.argmin(np.abs(levels))
    for block in range(blocks):
        best, power = 0.0, 0.0
        for sign in (1.0, -1.0):
            a, b, count = 0.0, 0.0, 0
            for i in range(size):
                value, weight = sign * x[block, i], w[block, i]
                a += weight * value * levels[middle]
                b += weight * levels[middle] ** 2
                direction = 1 if value > 0 else -1
                code = middle
                while value != 0 and 0 <= code + direction < levels.size:
                    here, there = levels[code], levels[code + direction]
                    code += direction
                    steps[count] = (here + there) / 2 / value
                    of_a[count] = weight * value * (there - here)
                    of_b[count] = weight * (there**2 - here**2)
                    count += 1
            if a > 0:
                best = max(best, a * a / b)
            for k in np.argsort(steps[:count]):
                a += of_a[k]
                b += of_b[k]
                if a > 0:
                    best = max(best, a * a / b)
        for i in range(size):
            power += w[block, i] * x[block, i] ** 2
        least[block] = power - best
    return least


@njit(**COMPILE)
def least_joint_errors(x, w, levels, scales, lowest, highest, size):
    """The least error of blocks with factors, over all given scales and all factors and codes.

    Args:
        x, w, levels: as for `least_errors`.
        scales: float64 [blocks, n].
        lowest, highest: the range of the factors.
        size: weights in a sub-block.

    Returns:
        float64 [blocks].
    """
    least = np.full(x.shape[0], np.inf)
    for block in range(x.shape[0]):
        for scale in scales[block]:
            total = 0.0
            for first in range(0, x.shape[1], size):
                best = np.inf
                for factor in range(lowest, highest + 1):
                    error = 0.0
                    for i in range(first, first + size):
                        d = scale * factor
                        q = _nearest(x[block, i] / d, levels) if d != 0 else 0.0
                        error += w[block, i] * (x[block, i] - d * q) ** 2
                        if error >= best:
                            break
                    best = min(best, error)
                total += best
                if total >= least[block]:
                    break
            least[block] = min(least[block], total)
    return least


@njit(**COMPILE)
def least_line_errors(x, w, highest):
    """The least error of sub-blocks whose weights are D · code − M, with D and M ≥ 0 their own.

    Lines through the values are refined until they stay, from 720 beginnings: a search, but one
    that no factors bind, so what a block can store is hardly ever better.

    Args:
        x, w: float64 [sub-blocks, size], values and weights.
        highest: the highest code.

    Returns:
        float64 [sub-blocks].
    """
    least = np.empty(x.shape[0])
    for row in range(x.shape[0]):
        values, weights = x[row], w[row]
        low, high = min(0.0, values.min()), values.max()
        best = (weights * (values - low) ** 2).sum() if high <= low else np.inf
        for k in range(720 if high > low else 0):
            spread, below = 0.8 + (k // 12) / 60, (k % 12) / 11
            d = (high - low) / (highest * spread)
            m = max(0.0, d * highest * (spread - 1) * below - low)
            error = np.inf
            while True:
                sums = np.zeros(5)
                found = 0.0
                for i in range(values.size):
                    q = min(max(np.rint((values[i] + m) / d), 0.0), highest)
                    found += weights[i] * (values[i] + m - d * q) ** 2
                    sums += weights[i] * np.array([1.0, q, q * q, values[i], q * values[i]])
                if not found < error * (1 - 1e-12):
                    break
                error = found
                one, q1, q2, x1, qx = sums
                spread_of_codes = one * q2 - q1 * q1
                if spread_of_codes <= 1e-12 * one * q2:
                    break
                d = (one * qx - x1 * q1) / spread_of_codes
                m = (q1 * qx - q2 * x1) / spread_of_codes
                if m < 0:
                    d, m = qx / q2, 0.0
                if not d > 0:
                    break
            best = min(best, error)
        least[row] = best
    return least
