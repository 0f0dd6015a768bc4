"""Whether the confidence of labels is what it says: expected calibration error, reliability, and order.

Of a set it takes counts alone, which add up over images and shards.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

LEVELS = 256
BINS = 10


class Bin(TypedDict):
    """Pixels of a range of confidence: its mean, the share whose label is right, and how many they are."""

    confidence: float
    accuracy: float
    pixels: int


class CalibrationScore(TypedDict):
    """Fractions in [0, 1]; None where there is nothing to score.

    `ece` is the expected calibration error over `BINS` ranges (Guo et al. 2017, Eq. 3); `auc` the probability that a
    right label has more confidence than a wrong one, where ties count half; `bins` are the ranges that have pixels.
    """

    ece: float | None
    auc: float | None
    confidence: float | None
    accuracy: float | None
    pixels: int
    bins: list[Bin]


def confidence_counts(
    confidence: UInt8[np.ndarray, "*size"], right: Bool[np.ndarray, "*size"], counted: Bool[np.ndarray, "*size"]
) -> Int64[np.ndarray, "2 levels"]:
    """Count the pixels of each confidence whose label is wrong (row 0) and right (row 1), where `counted` says so."""
    rows = (confidence[counted & (right == kind)] for kind in (False, True))
    return np.stack([np.bincount(row, minlength=LEVELS) for row in rows]).astype(np.int64)


def calibration_summary(counts: Int64[np.ndarray, "2 levels"]) -> CalibrationScore:
    """Summarize counts of a whole set."""
    total, right = counts.sum(axis=0), counts[1]
    pixels = int(total.sum())
    if pixels == 0:
        return CalibrationScore(ece=None, auc=None, confidence=None, accuracy=None, pixels=0, bins=[])
    levels = np.arange(LEVELS) / (LEVELS - 1)
    place = np.minimum((levels * BINS).astype(int), BINS - 1)
    of_bin = [np.bincount(place, weights, BINS) for weights in (total, total * levels, right)]
    bins = [
        Bin(confidence=float(sure / count), accuracy=float(correct / count), pixels=int(count))
        for count, sure, correct in zip(*of_bin, strict=True)
        if count
    ]
    return CalibrationScore(
        ece=sum(one["pixels"] * abs(one["confidence"] - one["accuracy"]) for one in bins) / pixels,
        auc=_auc(counts),
        confidence=float((total * levels).sum() / pixels),
        accuracy=float(right.sum() / pixels),
        pixels=pixels,
        bins=bins,
    )


def fit_odds(features: Float[np.ndarray, "n d"], right: Bool[np.ndarray, " n"]) -> Float[np.ndarray, " d"]:
    """Return the weights w for which 1 / (1 + exp(-features @ w)) is most likely the probability of being right.

    A tiny penalty on w keeps it finite where the two can be told apart without a fault.
    """
    signs = np.where(right, 1.0, -1.0)

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margins = signs * (features @ weights)
        slopes = -signs * expit(-margins)
        value = np.logaddexp(0, -margins).mean() + 5e-7 * float(weights @ weights)
        return float(value), features.T @ slopes / len(features) + 1e-6 * weights

    return minimize(loss, np.zeros(features.shape[1]), jac=True, method="L-BFGS-B").x


def _auc(counts: Int64[np.ndarray, "2 levels"]) -> float | None:
    wrong, right = counts.astype(np.float64)
    if not wrong.sum() or not right.sum():
        return None
    below = np.cumsum(wrong) - wrong
    return float((right * (below + wrong / 2)).sum() / (wrong.sum() * right.sum()))
