"""How sure the labels are: for each pixel the probability that its label is right.

Three things are known of a pixel beside its label.

- The scores. An image's classes compete with a background of the labels' threshold t, so that w = (t, s_1, ..., s_K)
  has the odds w_label / (sum of the others). Of the pixel classifier's probabilities p, w is
  ((1 - sum of p) t / (1 - t), p_1, ..., p_K). What counts is the logarithm of the odds.
- The dense CRF: the log odds of its marginal.
- The border. Labels are wrong most often where they end: log(1 + 100 d / long side), where the labels' nearest border
  is d pixels away.

These, weighted, and a constant that differs for background and classes, are the log odds of the label being right:
Platt scaling with several features. `CALIBRATIONS` has the weights; no ground truth of a user enters.
`benchmarks/calibration.py` fits them, and `docs/how-to/confidence.md` says on what.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Integer, UInt8
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

LIMIT = 6.0
"""Log odds further from 0 are not told apart."""
MISSING = 0.5
"""Most that background can have in an image with a tag that no pixel has: the class lies somewhere in it."""


@dataclass(frozen=True)
class Calibration:
    """Log odds of a label being right, from what is known of its pixel.

    Attributes:
        scores: Weight of the log odds of the scores.
        crf: Weight of the log odds of the CRF's marginal; 0 without a CRF.
        border: Weight of log(1 + 100 d / long side), d pixels from the labels' nearest border.
        background: Constant where the label is background.
        foreground: Constant where it is a class.
    """

    scores: float
    crf: float
    border: float
    background: float
    foreground: float


CALIBRATIONS = {
    # (by the pixel classifier, with a CRF)
    (False, False): Calibration(1.37, 0.0, 0.15, 0.54, -0.04),
    (False, True): Calibration(1.32, 0.19, -0.1, 0.05, -0.61),
    (True, False): Calibration(0.49, 0.0, 0.68, -0.41, -0.2),
    (True, True): Calibration(0.36, 0.16, 0.63, -0.58, -0.13),
}


def score_odds(
    levels: Float[Tensor, "k h w"], rows: Int[np.ndarray, "h w"], threshold: float, *, by_pixels: bool
) -> Float32[np.ndarray, "h w"]:
    """Return the log odds of each pixel's label among the image's classes and background, within `LIMIT` of 0.

    Args:
        levels: Walked scores over the image's highest, or the pixel classifier's probabilities.
        rows: The labels: 1 + a row of `levels`, 0 for background.
        threshold: Background threshold of the labels.
        by_pixels: Whether `levels` are probabilities.
    """
    if by_pixels:
        background = (1 - levels.sum(0)).clamp(min=0) * (threshold / max(1 - threshold, 1e-6))
    else:
        background = torch.full_like(levels[0], threshold)
    weights = torch.cat([background[None], levels])
    own = weights.gather(0, torch.from_numpy(rows)[None].long())[0]
    return _log_odds(own, weights.sum(0) - own)


def log_odds(probabilities: Float[Tensor, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Return the log odds of probabilities, within `LIMIT` of 0."""
    return _log_odds(probabilities, 1 - probabilities)


def features_of(
    scores: Float[np.ndarray, "h w"], crf: Float[np.ndarray, "h w"] | None, rows: Int[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w 5"]:
    """Return what a `Calibration` weighs, in the order of its fields.

    Args:
        scores: Log odds of the labels by their scores.
        crf: By the CRF's marginal; None without a CRF.
        rows: The labels, 0 for background.
    """
    is_background = rows == 0
    crf = np.zeros_like(scores) if crf is None else crf
    features = (scores, crf, _border_distance(rows), is_background, ~is_background)
    return np.stack(features, axis=-1, dtype=np.float32, casting="same_kind")


def calibrated(
    features: Float[np.ndarray, "h w 5"], calibration: Calibration, *, lacks_a_tag: bool = False
) -> Float[np.ndarray, "h w"]:
    """Return the probability of each label being right, in (0, 1).

    Args:
        features: From `features_of`.
        calibration: Their weights.
        lacks_a_tag: The image has a tag that no pixel has.
    """
    found = expit(features @ np.array(astuple(calibration), np.float32))
    is_background = features[..., 3] > 0
    return np.where(is_background, np.minimum(found, MISSING), found) if lacks_a_tag else found


def as_bytes(probabilities: NDArray[np.floating]) -> UInt8[np.ndarray, "*size"]:
    """Return probabilities as a map stores them: 255 times, rounded."""
    return np.rint(255 * probabilities).astype(np.uint8)


def expected_iou(labels: Integer[np.ndarray, "h w"], confidence: UInt8[np.ndarray, "h w"], num_values: int) -> float:
    """Return the intersection over union that an image's labels may be expected to have, the mean over its values.

    Args:
        labels: Of the image.
        confidence: As a map stores it.
        num_values: How many the image may have, background among them: those that have no pixel expect 0.
    """
    found = expected_ious(labels, confidence, num_values)
    return sum(found.values()) / max(num_values, len(found))


def expected_ious(
    labels: Integer[np.ndarray, "h w"], confidence: UInt8[np.ndarray, "h w"], num_values: int
) -> dict[int, float]:
    """Return, for each value that has a pixel, the intersection over union that it may be expected to have.

    With N_v pixels of value v, and c the probability that a pixel's label is right, the expected intersection of v is
    the sum of c over its pixels, and the expected union N_v and what others miss of it: the sum of 1 - c over all other
    pixels, each of which may as well be of any of the other values.

    Args:
        labels: Of the image.
        confidence: As a map stores it; c is it over 255.
        num_values: How many the image may have, background among them.
    """
    counts = np.bincount(labels.ravel())
    right = np.bincount(labels.ravel(), weights=confidence.ravel() / 255)
    present = np.flatnonzero(counts)
    wrong = (counts - right).sum() - (counts - right)[present]
    union = counts[present] + wrong / max(num_values - 1, 1)
    return dict(zip(present.tolist(), (right[present] / union).tolist(), strict=True))


def _log_odds(own: Tensor, others: Tensor) -> Float32[np.ndarray, "h w"]:
    odds = own.clamp(min=1e-9).log() - others.clamp(min=1e-9).log()
    return odds.clamp(-LIMIT, LIMIT).float().cpu().numpy()


def _border_distance(rows: Int[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Return log(1 + 100 d / long side), d pixels from the nearest border; labels of one value are far from any."""
    inner = np.ones(rows.shape, np.uint8)
    inner[:, 1:][rows[:, 1:] != rows[:, :-1]] = 0
    inner[1:][rows[1:] != rows[:-1]] = 0
    longest = max(rows.shape)
    if inner.all():
        return np.full(rows.shape, np.log1p(100), np.float32)
    distance = cv2.distanceTransform(inner, cv2.DIST_L2, cv2.DIST_MASK_5)
    return np.log1p(100 / longest * np.asarray(distance).clip(max=longest), dtype=np.float32)
