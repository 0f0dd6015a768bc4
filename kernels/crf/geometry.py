"""The permutohedral lattice in numbers (Adams, Baek and Davis 2010): the same for every version."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np


@cache
def elevation(num_dimensions: int) -> np.ndarray:
    """Return the factors [d], float32, by which features are scaled before they are embedded in d + 1 coordinates.

    They make the embedding orthogonal, and the blur along the lattice's d + 1 axes, together with splatting and
    slicing, a Gaussian of unit variance: (d + 1) sqrt(2 / 3) / sqrt((i + 1) (i + 2)).
    """
    i = np.arange(num_dimensions)
    return ((num_dimensions + 1) * np.sqrt(2 / 3) / np.sqrt((i + 1) * (i + 2))).astype(np.float32)


@cache
def packing(num_dimensions: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return how a vertex's coordinates become one integer key.

    A vertex has d + 1 integer coordinates that sum to 0; its key is the sum of the first d, each times its power
    of a radix, modulo 2^64. A step along axis j adds 1 to every coordinate and takes d + 1 from the j-th: it adds
    a constant to the key.

    Returns:
        The powers [d + 1], int64, the last one 0; the keys' increments [d + 1] of the steps; and the largest
        absolute coordinate for which keys are unique.
    """
    # Odd, so that coordinates from -limit to limit are its digits. A step away from a vertex must have a key too.
    radix = min(int(2 ** (64 / num_dimensions)), 2**32) // 2 * 2 - 1
    powers = [radix**i for i in range(num_dimensions)] + [0]
    steps = [sum(powers) - (num_dimensions + 1) * power for power in powers]
    wrapped = [np.array([value % 2**64 for value in values], np.uint64).view(np.int64) for values in (powers, steps)]
    return wrapped[0], wrapped[1], radix // 2 - num_dimensions - 1


def check_extents(extents: Sequence[float]) -> None:
    """Raise ValueError if features from 0 to these could reach a vertex without a key of its own."""
    scaled = elevation(len(extents)) * np.array(extents)
    reach = max(scaled.sum(), (scaled * np.arange(1, len(extents) + 1)).max())
    if reach > packing(len(extents))[2]:
        raise ValueError(f"crf: the image is too large for the lattice, its features range up to {list(extents)}")
