"""T^n in fewer than n products: its Chebyshev series, cut where a stated bound of the error allows."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np


class Schedule(NamedTuple):
    """A polynomial of T as a sequence of products, the same for every map.

    x_0 is the input, x_{-1} = 0, and x_{j+1} = scale[j] T x_j - keep[j] x_{j-1}. The result is
    first x_0 + sum over j of share[j] x_{j+1}.

    Attributes:
        first: Share of the input.
        products: float32 [m, 3]; rows (scale, keep, share).
    """

    first: float
    products: np.ndarray


@cache
def schedule(steps: int, tolerance: float) -> Schedule:
    """Return the products for T^steps: steps of them if the tolerance is 0, else as many as its bound asks for.

    x^n = sum over k of P(|walk_n| = k) T_k(x), with T_k the Chebyshev polynomials and walk_n a simple random walk of n
    steps (see the README). The series ends at the smallest degree m with 2 P(|walk_n| > m) <= tolerance: once for the
    terms beyond, once for those kept, whose shares are scaled to sum to 1 so that a constant map stays as it is.
    """
    shares = _distribution(steps)
    # Summed from the far end, where the terms are small.
    beyond = np.append(np.cumsum(shares[::-1])[::-1], 0.0)[1:]
    degree = int(np.argmax(2 * beyond <= tolerance)) * 2 + steps % 2
    if tolerance == 0 or degree >= steps:
        products = np.tile(np.array([1, 0, 0], np.float32), (steps, 1))
        products[-1:, 2] = 1
        return Schedule(float(steps == 0), products)
    products = np.tile(np.array([2, 1, 0], np.float32), (degree, 1))
    products[0, :2] = 1, 0
    kept = shares[: degree // 2 + 1] / (1 - beyond[degree // 2])
    # Shares belong to degrees of the parity of n; the others are only passed through.
    products[1 - steps % 2 :: 2, 2] = kept[1 - steps % 2 :]
    return Schedule(float(kept[0]) if steps % 2 == 0 else 0.0, products)


def _distribution(steps: int) -> np.ndarray:
    """Return P(|walk_n| = k) for k = n % 2, n % 2 + 2, ...; what lies beyond 40 standard deviations is below 1e-300."""
    last = min(steps, int(40 * steps**0.5) + 2)
    k = np.arange(steps % 2, last - 1, 2, dtype=np.float64)
    # C(n, (n-k)/2 - 1) / C(n, (n-k)/2); products of ratios, unlike factorials, stay in range for any n.
    weights = np.cumprod(np.append(1.0, (steps - k) / (steps + k + 2)))
    if steps % 2 == 0:
        weights[0] /= 2
    return weights / weights.sum()
