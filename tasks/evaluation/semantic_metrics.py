"""Scores of semantic label maps: one confusion matrix of a set, which adds up over images and shards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from data.dataset import VOID, LabelMap
from data.formats.label_maps import unknown_values


class SemanticScore(TypedDict):
    """Fractions in [0, 1]; None where there is nothing to score."""

    miou: float | None
    iou: dict[str, float | None]
    accuracy: float | None
    class_accuracy: float | None
    accuracy_per_class: dict[str, float | None]


def confusion(gt: LabelMap, pred: LabelMap, num_classes: int) -> NDArray[np.int64]:
    """Count the pixels of each pair of true and predicted class in one image.

    A pixel that the ground truth leaves void (255) is not counted. A void prediction is wrong: it counts in
    the last column, which belongs to no class, so it is a miss of the true class and nobody's false alarm.

    Args:
        gt: Class values [H, W], 0 background, 255 void.
        pred: Class values [H, W], the same.
        num_classes: The values of a label map, background and what is reserved for void counted.

    Returns:
        [num_classes, num_classes + 1]; true classes are the rows.

    Raises:
        ValueError: The maps differ in size, or hold a value outside the class table.
    """
    refuse_two_sizes(gt, pred)
    refuse_outside(gt, pred, num_classes)
    side = max(num_classes, VOID + 1)
    pairs = np.bincount(gt.ravel().astype(np.intp) * side + pred.ravel(), minlength=side * side).reshape(side, side)
    void, pairs[VOID] = pairs[:, VOID].copy(), 0
    pairs[:, VOID] = 0
    void[VOID] = 0
    return np.concatenate([pairs[:num_classes, :num_classes], void[:num_classes, None]], axis=1)


def refuse_two_sizes(gt: NDArray, pred: NDArray) -> None:
    """Raise `ValueError` where the maps differ in size."""
    if gt.shape != pred.shape:
        raise ValueError(f"expected maps of one size, got ground truth {gt.shape} and prediction {pred.shape}")


def refuse_outside(gt: NDArray, pred: NDArray, num_classes: int) -> None:
    """Raise `ValueError` where a map has values outside the class table."""
    for name, labels in (("ground truth", gt), ("prediction", pred)):
        if outside := unknown_values(labels, num_classes):
            raise ValueError(f"expected class values under {num_classes} or {VOID}, the {name} holds {outside}")


def iou(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each class's intersection over union [n], NaN for a class in neither map.

    Args:
        confusion: [n, n + 1] as `confusion` gives it, or a sum of such.
    """
    hits = np.diagonal(confusion).astype(np.float64)
    union = confusion.sum(axis=1) + confusion[:, :-1].sum(axis=0) - hits
    return np.divide(hits, union, out=np.full_like(hits, np.nan), where=union > 0)


def recall(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the fraction of each class's pixels that are right [n], NaN for a class that the truth lacks.

    Args:
        confusion: As of `iou`.
    """
    pixels = confusion.sum(axis=1)
    hits = np.diagonal(confusion).astype(np.float64)
    return np.divide(hits, pixels, out=np.full_like(hits, np.nan), where=pixels > 0)


def image_iou(gt: LabelMap, pred: LabelMap, num_classes: int) -> float | None:
    """Return the score of one image: the mean IoU of the classes that either map has; None where all is void.

    Arguments and errors are those of `confusion`.
    """
    return _mean(iou(confusion(gt, pred, num_classes)))


def semantic_summary(confusion: NDArray[np.int64], class_names: Sequence[str]) -> SemanticScore:
    """Summarize the confusion matrix of a whole set.

    `accuracy` is the fraction of all pixels that are right (the SegNet paper's G), `class_accuracy` the mean of that
    of each class's pixels (its C). The mean IoU is over the classes that occur in the ground truth or the predictions,
    the mean accuracy over those in the ground truth.

    Args:
        confusion: [n, n + 1] as `confusion` gives it, summed over the set.
        class_names: The n names, the background's first.

    Raises:
        ValueError: As many names as rows were expected.
    """
    scores, accuracies = iou(confusion), recall(confusion)
    num_pixels = int(confusion.sum())
    return SemanticScore(
        miou=_mean(scores),
        iou=_by_class(scores, class_names),
        accuracy=float(np.diagonal(confusion).sum() / num_pixels) if num_pixels else None,
        class_accuracy=_mean(accuracies),
        accuracy_per_class=_by_class(accuracies, class_names),
    )


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _by_class(values: NDArray[np.float64], names: Sequence[str]) -> dict[str, float | None]:
    return {name: None if np.isnan(value) else float(value) for name, value in zip(names, values, strict=True)}
