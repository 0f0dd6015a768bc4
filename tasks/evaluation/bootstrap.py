"""How uncertain a figure of a set is: the bootstrap over its images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DRAWS, SHARE, SEED = 1000, 0.95, 0


def resample(num_images: int, draws: int = DRAWS) -> NDArray[np.int64]:
    """Return how often each image is in each set [draws, images] that is drawn from the images with replacement.

    The same numbers give the same sets.
    """
    if num_images == 0:
        return np.zeros((draws, 0), np.int64)
    rng = np.random.default_rng(SEED)
    return rng.multinomial(num_images, np.full(num_images, 1 / num_images), size=draws)


def interval(figures: NDArray[np.floating]) -> tuple[float, float]:
    """Return the range in which `SHARE` of the figures of resampled sets lie; what is not finite counts not."""
    low, high = np.nanquantile(figures, ((1 - SHARE) / 2, (1 + SHARE) / 2))
    return float(low), float(high)


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the bootstrap interval of the mean of one figure per image; None for fewer than two images."""
    if len(values) < 2:
        return None
    return interval(resample(len(values)) @ np.asarray(values, np.float64) / len(values))
