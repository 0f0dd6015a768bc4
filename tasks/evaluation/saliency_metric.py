"""Scores of saliency maps: mean absolute error, and the largest F over all thresholds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from data.dataset import VOID

BETA_SQUARED = 0.3
LEVELS = 256


class SaliencySums(NamedTuple):
    """What adds up over images.

    Attributes:
        images: How many there are.
        error: Sum of their mean absolute errors.
        with_object: How many have a salient pixel; precision and recall are those of these.
        precision: [256], sums over them, a threshold each.
        recall: [256].
    """

    images: int
    error: float
    with_object: int
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]


class SaliencyScore(TypedDict):
    """Fractions in [0, 1]; None where there is nothing to score.

    Attributes:
        mae: Mean absolute error of the saliency, the mean over images.
        max_f: The largest over thresholds of F = (1 + b) P R / (b P + R) with b = 0.3, P and R means over images.
    """

    mae: float | None
    max_f: float | None
    images: int


def saliency_sums(truth: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> SaliencySums:
    """Score one image.

    A pixel is found at threshold t = 0 ... 255 if its saliency is at least t. Where nothing is found, precision is 0.

    Args:
        truth: [H, W], 1 for salient, 0, 255 for not known, which is not counted.
        predicted: [H, W], 255 times the probability of being salient.

    Raises:
        ValueError: The maps differ in size.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"expected maps of one size, got truth {truth.shape} and prediction {predicted.shape}")
    known = truth != VOID
    salient, levels = truth[known] == 1, predicted[known]
    nothing = np.zeros(LEVELS)
    if not salient.size:
        return SaliencySums(0, 0.0, 0, nothing, nothing)
    error = float(np.abs(levels / 255 - salient).mean())
    if not salient.any():
        return SaliencySums(1, error, 0, nothing, nothing)
    # How many pixels have at least each level.
    found, hits = (np.bincount(part, minlength=LEVELS)[::-1].cumsum()[::-1] for part in (levels, levels[salient]))
    return SaliencySums(1, error, 1, hits / np.maximum(found, 1), hits / salient.sum())


def add_saliency(sums: Iterable[SaliencySums]) -> SaliencySums:
    """Return the sums of several images or shards."""
    total: tuple[Any, ...] = (0, 0.0, 0, np.zeros(LEVELS), np.zeros(LEVELS))
    for one in sums:
        total = tuple(a + b for a, b in zip(total, one, strict=True))
    return SaliencySums(*total)


def saliency_summary(sums: SaliencySums) -> SaliencyScore:
    """Return the scores of a whole set."""
    mae = sums.error / sums.images if sums.images else None
    max_f = None
    if sums.with_object:
        precision, recall = sums.precision / sums.with_object, sums.recall / sums.with_object
        weighted = np.maximum(BETA_SQUARED * precision + recall, np.finfo(float).tiny)
        max_f = float(((1 + BETA_SQUARED) * precision * recall / weighted).max())
    return SaliencyScore(mae=mae, max_f=max_f, images=int(sums.images))
