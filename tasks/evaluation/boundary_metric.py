"""BF, the boundary F1 of semantic label maps (SegNet, Badrinarayanan et al. 2017, section 3.3): sums over images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isqrt
from typing import NamedTuple, TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray

from data.dataset import VOID, LabelMap
from tasks.evaluation.semantic_metrics import refuse_outside, refuse_two_sizes


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

    @classmethod
    def of_nothing(cls, num_classes: int) -> BoundarySums:
        """Return the sums of no images."""
        return cls(np.float64(0), np.int64(0), np.zeros(num_classes), np.zeros(num_classes, np.int64))


class BoundaryScore(TypedDict):
    """Fractions in [0, 1]; None where there is nothing to score."""

    boundary_f: float | None
    per_class: dict[str, float | None]


def boundary_sums(gt: LabelMap, pred: LabelMap, num_classes: int) -> BoundarySums:
    """Score the class contours of one image: F1 = 2 P R / (P + R) of each class in the ground truth, and their mean.

    P is the fraction of the class's predicted contour pixels that have one of its true contour pixels nearer than
    the tolerance; R is the same from the truth to the prediction. What follows was chosen here.

    - Distances are Euclidean, between pixel centres, and match where they are *smaller* than 0.0075 sqrt(H^2 + W^2).
    - A contour pixel may match any number of the other map's, as Csurka et al. 2013 count; the benchmark of Martin et
      al. 2004 assigns pixels one to one.
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
        num_classes: The values of a label map, background and what is reserved for void counted.

    Raises:
        ValueError: The maps differ in size, or hold a value outside the class table.
    """
    refuse_two_sizes(gt, pred)
    refuse_outside(gt, pred, num_classes)
    present = np.bincount(gt.ravel(), minlength=VOID + 1)
    present[VOID] = 0
    true_contours = _contours(gt)
    contours = _contours(np.where(gt == VOID, pred.dtype.type(VOID), pred))
    near = _near_disk(*gt.shape)
    scores = np.full(num_classes, np.nan)
    for value in np.flatnonzero(present[:num_classes]):
        scores[value] = _f1(true_contours == value, contours == value, near)
    known = ~np.isnan(scores)
    score = scores[known].mean() if known.any() else 0
    return BoundarySums(np.float64(score), np.int64(known.any()), np.nan_to_num(scores), known.astype(np.int64))


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


def _contours(labels: LabelMap) -> LabelMap:
    """Return [H, W], the class at every contour pixel and 255 at the others."""
    edge = np.zeros(labels.shape, bool)
    for first, second in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        differ = (labels[first] != labels[second]) & (labels[first] != VOID) & (labels[second] != VOID)
        edge[first] |= differ
        edge[second] |= differ
    return np.where(edge, labels, labels.dtype.type(VOID))


def _near_disk(height: int, width: int) -> NDArray[np.uint8]:
    """Return [2 r + 1, 2 r + 1], 1 at the offsets from its centre that are shorter than the tolerance.

    In integers, so that no rounding decides where the tolerance is a distance that occurs: 6 px for 480 x 640.
    """
    # 0.0075^2 = 9 / 160000, and the squares of distances are integers.
    last_squared = (9 * (height**2 + width**2) - 1) // 160_000
    steps = np.arange(-isqrt(last_squared), isqrt(last_squared) + 1) ** 2
    return (steps[:, None] + steps <= last_squared).astype(np.uint8)


def _f1(true: NDArray[np.bool_], found: NDArray[np.bool_], near: NDArray[np.uint8]) -> float:
    """Return the F1 of one class's contours [H, W], NaN where both are empty; `near` is the disk that matches."""
    # Most classes fill a part of the image.
    left, top, width, height = cv2.boundingRect((true | found).view(np.uint8))
    box = np.s_[top : top + height, left : left + width]
    true, found = true[box], found[box]
    num_true, num_found = np.count_nonzero(true), np.count_nonzero(found)
    if not num_true or not num_found:
        return 0.0 if num_true or num_found else np.nan
    precision = np.count_nonzero(found & _reached(true, near)) / num_found
    recall = np.count_nonzero(true & _reached(found, near)) / num_true
    return 2 * precision * recall / (precision + recall) if precision else 0.0


def _reached(contour: NDArray[np.bool_], near: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return cv2.dilate(contour.view(np.uint8), near).view(bool)


def _mean(total: np.float64, count: np.int64) -> float | None:
    return float(total / count) if count else None
