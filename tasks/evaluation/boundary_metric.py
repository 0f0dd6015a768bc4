"""BF, the boundary F1 of semantic label maps (SegNet, Badrinarayanan et al. 2017, section 3.3): sums over images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isqrt
from typing import NamedTuple, TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.evaluation.semantic_metrics import refuse_outside, refuse_two_sizes

_VOID = 255


class BoundarySums(NamedTuple):
    """What BF needs to know of some images: numbers and arrays, which add up over images and shards.

    Attributes:
        score: The sum of the images' scores.
        num_images: The images with a score.
        class_scores: float64 [n], the sum of each class's F1.
        class_images: int64 [n], the images that each class's sum is over.
    """

    score: np.float64
    num_images: np.int64
    class_scores: NDArray[np.float64]
    class_images: NDArray[np.int64]


class BoundaryScore(TypedDict):
    """Fractions in [0, 1]; None where there is nothing to score."""

    boundary_f: float | None
    per_class: dict[str, float | None]


def boundary_sums(gt: NDArray[np.uint8], pred: NDArray[np.uint8], num_classes: int) -> BoundarySums:
    """Score the class contours of one image: F1 = 2 P R / (P + R) of each class in the ground truth, and their mean.

    P is the fraction of the class's predicted contour pixels that have one of its true contour pixels nearer than
    the tolerance; R is the same from the truth to the prediction. The paper leaves open what follows.

    - Distances are Euclidean, between pixel centres, and match where they are *smaller* than 0.0075 sqrt(H^2 + W^2).
    - A contour pixel of a class lies in it and has one of the four neighbours in another class: contours are the
      inner edges of regions, holes included, and two regions that meet have one each.
    - The image's border makes no contour.
    - Void (255) makes no contour, nor does it in its neighbours. Where the ground truth is void, so is the prediction.
    - A class whose contour only one of the maps has scores 0. One that has a contour in neither map, as a region that
      fills the image or that void surrounds, is left out, as are the classes that the ground truth lacks, though
      predicted. An image without any class to score is left out.

    Args:
        gt: Class values [H, W], 0 background, 255 void.
        pred: Class values [H, W], the same.
        num_classes: Classes with the background, 1 to 255.

    Raises:
        ValueError: The maps differ in size, or hold a value outside the class table.
    """
    refuse_two_sizes(gt, pred)
    present, predicted = (np.bincount(labels.ravel(), minlength=256) for labels in (gt, pred))
    refuse_outside(present, predicted, num_classes)
    true_contours = _contours(gt, num_classes)
    contours = _contours(np.where(gt == _VOID, np.uint8(_VOID), pred), num_classes)
    near = _near_disk(*gt.shape)
    scores = np.full(num_classes, np.nan)
    for value in np.flatnonzero(present[:num_classes]):
        found, true = contours[value], true_contours[value]
        if len(found) and len(true):
            precision = _num_near(found, true, near) / len(found)
            recall = _num_near(true, found, near) / len(true)
            scores[value] = 2 * precision * recall / (precision + recall) if precision else 0
        elif len(found) or len(true):
            scores[value] = 0
    known = ~np.isnan(scores)
    score = scores[known].mean() if known.any() else 0
    return BoundarySums(
        np.array(score, np.float64), np.array(known.any(), np.int64), np.nan_to_num(scores), known.astype(np.int64)
    )


def add_sums(sums: Iterable[BoundarySums]) -> BoundarySums:
    """Join the sums of images or shards.

    Raises:
        ValueError: Nothing was given, or class tables of different lengths.
    """
    return BoundarySums(*(np.sum(parts, axis=0) for parts in zip(*sums, strict=True)))


def boundary_summary(sums: BoundarySums, class_names: Sequence[str]) -> BoundaryScore:
    """Return BF, the mean over images, and each class's mean over the images that it has a score in.

    Args:
        sums: Of every image of the set.
        class_names: The n names, the background's first.
    """
    classes = zip(class_names, sums.class_scores, sums.class_images, strict=True)
    return BoundaryScore(
        boundary_f=_mean(sums.score, sums.num_images),
        per_class={name: _mean(score, num_images) for name, score, num_images in classes},
    )


def _contours(labels: NDArray[np.uint8], num_classes: int) -> list[NDArray[np.intp]]:
    """Return each class's contour pixels [N, 2], (y, x)."""
    edge = np.zeros(labels.shape, bool)
    for first, second in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        differ = (labels[first] != labels[second]) & (labels[first] != _VOID) & (labels[second] != _VOID)
        edge[first] |= differ
        edge[second] |= differ
    pixels = np.argwhere(edge)
    values = labels[edge]
    by_class = pixels[np.argsort(values, kind="stable")]
    return np.split(by_class, np.cumsum(np.bincount(values, minlength=num_classes))[:-1])


def _near_disk(height: int, width: int) -> NDArray[np.uint8]:
    """Return [2 r + 1, 2 r + 1], 1 at the offsets from its centre that are shorter than the tolerance.

    In integers, so that no rounding decides where the tolerance is a distance that occurs: 6 px for 480 x 640.
    """
    # 0.0075^2 = 9 / 160000, and the squares of distances are integers.
    last_squared = (9 * (height**2 + width**2) - 1) // 160_000
    steps = np.arange(-isqrt(last_squared), isqrt(last_squared) + 1) ** 2
    return (steps[:, None] + steps <= last_squared).astype(np.uint8)


def _num_near(pixels: NDArray[np.intp], others: NDArray[np.intp], near: NDArray[np.uint8]) -> int:
    """Count the pixels [N, 2] that have one of the others [M, 2], at least one, in the disk `near` around them."""
    radius = len(near) // 2
    low, high = others.min(axis=0) - radius, others.max(axis=0) + radius
    reached = np.zeros(high - low + 1, np.uint8)
    reached[tuple((others - low).T)] = 1
    reached = cv2.dilate(reached, near)
    inside = pixels[((pixels >= low) & (pixels <= high)).all(axis=1)]
    return int(np.count_nonzero(reached[tuple((inside - low).T)]))


def _mean(total: NDArray[np.float64], count: NDArray[np.int64]) -> float | None:
    return float(total / count) if count else None
