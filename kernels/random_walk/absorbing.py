"""Random walks that end where they meet a source: Grady's random walker (2006) on the walk of IRNet."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, cg
from torch import Tensor

from kernels.affinity import boundary_to_affinity, offsets

LOST, WALL = 1e-6, 1e-4
"""The weight with which a walk is lost at every step, and the sum of weights under which a cell is a wall."""
TOLERANCE, MOST_STEPS = 1e-3, 300


def absorb(
    sources: Float[Tensor, "k h w"], boundary: Float[Tensor, "h w"], *, radius: int, beta: float
) -> NDArray[np.float64]:
    """Return for each source the probability [K, H, W] that a random walk from a pixel ends at it.

    The walk is that of `kernels.random_walk`, T = S^-1 A^beta, and ends where it meets a source; with a chance that
    matters only where boundaries enclose a pixel it counts for the first source before. The probabilities x are what a
    step leaves as they are, x = T x off the sources: a sparse system, solved by conjugate gradients.

    Args:
        sources: 1 where a source is, each pixel of one source at most; elsewhere 0.
    """
    found = sources.numpy().reshape(len(sources), -1).astype(np.float64)
    assert (found.sum(0) <= 1).all(), "expected each pixel of one source at most"
    free, weights = 1 - found.sum(0), _weights(boundary, radius, beta)
    degrees = weights @ np.ones(found.shape[1]) + LOST
    step = lambda x: degrees * x - free * (weights @ (free * x))  # noqa: E731
    system = LinearOperator(weights.shape, matvec=step, dtype=np.float64)  # pyright: ignore[reportCallIssue]
    for row in found[1:]:
        row += cg(system, free * (weights @ row), rtol=TOLERANCE, maxiter=MOST_STEPS, M=sparse.diags(1 / degrees))[0]
    found[0] = 1 - found[1:].sum(0)
    found = found.reshape(sources.shape)
    # A pixel of a wall, which nothing reaches, lies between its neighbours.
    inside = ((degrees > WALL) | (free == 0)).reshape(boundary.shape).astype(np.float64)
    counts = cv2.blur(inside, (3, 3), borderType=cv2.BORDER_CONSTANT)
    sums = np.stack([cv2.blur(each * inside, (3, 3), borderType=cv2.BORDER_CONSTANT) for each in found])
    return np.where(inside > 0, found, sums / np.maximum(counts, 1e-9))


def _weights(boundary: Float[Tensor, "h w"], radius: int, beta: float) -> sparse.dia_array:
    """Return A^beta without its diagonal, [H * W, H * W]: each offset is two diagonals."""
    size, width = boundary.numel(), boundary.shape[1]
    affinity = boundary_to_affinity(boundary, radius).pow(beta).numpy().reshape(-1, size).astype(np.float64)
    steps = [dy * width + dx for dy, dx in offsets(radius).tolist()]
    # Pairs whose second pixel lies outside have affinity 0, so that none reaches around the end of a row.
    after = [np.roll(values, step) for values, step in zip(affinity, steps, strict=True)]
    # On a narrow map two offsets may be one diagonal.
    diagonals, rows = np.unique([-step for step in steps] + steps, return_inverse=True)
    values = np.zeros((len(diagonals), size))
    np.add.at(values, rows, np.concatenate([affinity, after]))
    return sparse.dia_array((values, diagonals), shape=(size, size))
