"""Scores of instance masks: VOC-style average precision of masks, from records that add up over shards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from data.dataset import VOID

_THRESHOLDS = (0.5, 0.7)
Void = Literal["ignored", "predicted"]
CHAINERCV = "chainercv"
"""The name of scores in which void pixels stay in the detections."""


class InstanceRecords(NamedTuple):
    """What average precision needs to know of some images: plain arrays, to be kept in an `.npz`.

    Attributes:
        classes: int64 [N], each detection's class, counted from 0.
        scores: float64 [N].
        hits: bool [N, 2], whether the detection is a true positive at IoU 0.5 and at 0.7.
        num_gt: int64 [C], the objects of each class in the ground truth.
        images: str [N], the id of each detection's image: equal scores are ranked by it, whatever order images came in.
            [0] where nobody knows; then they keep the order that they came in.
    """

    classes: NDArray[np.int64]
    scores: NDArray[np.float64]
    hits: NDArray[np.bool_]
    num_gt: NDArray[np.int64]
    images: NDArray[np.str_] = np.zeros(0, np.str_)


class ClassPrecision(TypedDict):
    """Fractions in [0, 1]; None for a class without ground truth."""

    ap50: float | None
    ap70: float | None
    gt: int


class InstanceScore(TypedDict):
    """Means over the classes that have ground truth, None where no class has."""

    ap50: float | None
    ap70: float | None
    per_class: dict[str, ClassPrecision]


def match_image(
    masks: NDArray[np.bool_],
    classes: NDArray[np.integer],
    scores: NDArray[np.floating],
    gt_semantic: NDArray[np.integer],
    gt_instances: NDArray[np.integer],
    *,
    num_classes: int,
    void: Void = "ignored",
    image: str = "",
) -> InstanceRecords:
    """Decide which detections of one image are true positives.

    In descending order of score (the first of equals first), a detection takes the free object of its class
    with the highest IoU, if that reaches the threshold; a second detection of an object is a false positive.
    Detections meet only objects of their own image, so this gives what a pass over the whole set would.
    As objects do not overlap, VOC's rule, which looks at taken objects too, differs on exact ties alone.

    Void pixels of `gt_instances` belong to no object. "ignored": they are taken out of every mask, and a detection with
    no other pixel is left out. "predicted": they stay in the masks, as in chainercv's evaluation, by which the authors
    of IRNet score: a detection that spills into the void overlaps less, and one inside it is a false positive.

    Args:
        masks: [N, H, W]; they may overlap.
        classes: [N], counted from 0.
        scores: [N], higher is surer.
        gt_semantic: [H, W], 0 background, class + 1, 255 void.
        gt_instances: [H, W], 0 background, 255 void. An object's class is the one that most of its pixels have.
        num_classes: Foreground classes.
        void: What void pixels are in a detection.
        image: Its id.

    Raises:
        ValueError: Sizes disagree, a class lies outside the table, or an object has no class.
    """
    if masks.shape[1:] != gt_instances.shape or not len(masks) == len(classes) == len(scores):
        raise ValueError(
            f"expected N masks of {gt_instances.shape} with N classes and N scores, "
            f"got {masks.shape}, {len(classes)} and {len(scores)}"
        )
    objects, gt_classes = _index_objects(gt_semantic, gt_instances)
    for found in (classes, gt_classes):
        if len(found) and not 0 <= found.min() <= found.max() < num_classes:
            raise ValueError(f"expected classes from 0 to {num_classes - 1}, got {np.unique(found).tolist()}")

    # One column for the background, one for each object, one for void.
    num_columns = len(gt_classes) + 2
    overlaps = np.array([np.bincount(objects[mask], minlength=num_columns) for mask in masks], np.int64)
    overlaps = overlaps.reshape(len(masks), num_columns)
    if void == "ignored":
        overlaps = overlaps[:, :-1]
    areas = overlaps.sum(axis=1)
    kept = areas > 0
    kept_classes, kept_scores = classes[kept].astype(np.int64), scores[kept].astype(np.float64)

    inter = overlaps[kept, 1 : num_columns - 1]
    gt_areas = np.bincount(objects.ravel(), minlength=num_columns)[1:-1]
    iou = inter / (areas[kept, None] + gt_areas - inter)
    iou[kept_classes[:, None] != gt_classes] = 0
    order = np.argsort(-kept_scores, kind="stable")
    hits = np.stack([_claim(iou, order, threshold) for threshold in _THRESHOLDS], axis=1)
    num_gt = np.bincount(gt_classes, minlength=num_classes)
    return InstanceRecords(kept_classes, kept_scores, hits, num_gt, np.full(len(kept_scores), image))


def add_records(records: Iterable[InstanceRecords]) -> InstanceRecords:
    """Join the records of images or shards.

    Raises:
        ValueError: Nothing was given, or class tables of different lengths.
    """
    parts = list(records)
    classes, scores, hits, num_gt, _ = zip(*parts, strict=True)
    images = np.concatenate([_images_of(part) for part in parts])
    return InstanceRecords(
        np.concatenate(classes), np.concatenate(scores), np.concatenate(hits), np.sum(num_gt, axis=0), images
    )


def _images_of(records: InstanceRecords) -> NDArray[np.str_]:
    return records.images if len(records.images) else np.full(len(records.scores), "")


def average_precision(records: InstanceRecords, class_names: Sequence[str]) -> InstanceScore:
    """Return the average precision of a whole set: the area under the interpolated curve (VOC 2010 and later).

    Args:
        records: Of every image of the set.
        class_names: The C names of the foreground classes.
    """
    per_class: dict[str, ClassPrecision] = {}
    ranks = np.lexsort((_images_of(records), -records.scores))
    for index, (name, num_gt) in enumerate(zip(class_names, records.num_gt.tolist(), strict=True)):
        ranked = records.hits[ranks[records.classes[ranks] == index]]
        ap50, ap70 = (_area_under_curve(hits, num_gt) if num_gt else None for hits in ranked.T)
        per_class[name] = ClassPrecision(ap50=ap50, ap70=ap70, gt=num_gt)
    return InstanceScore(
        ap50=_mean([score["ap50"] for score in per_class.values()]),
        ap70=_mean([score["ap70"] for score in per_class.values()]),
        per_class=per_class,
    )


def mean_precision(records: Iterable[InstanceRecords], class_names: Sequence[str]) -> dict[str, float | None]:
    """Return "ap50" and "ap70" alone."""
    score = average_precision(add_records(records), class_names)
    return {"ap50": score["ap50"], "ap70": score["ap70"]}


def touching(gt_semantic: NDArray[np.integer], gt_instances: NDArray[np.integer], *, reach_px: int = 2) -> bool:
    """Tell whether two objects of one class have pixels at most `reach_px` apart in both y and x.

    Where annotators drew a void line between objects, as in VOC, the reach has to span it.
    """
    objects, gt_classes = _index_objects(gt_semantic, gt_instances)
    # Background and void get values that differ from every class.
    class_of = np.array([-1, *gt_classes, -1])
    height, width = objects.shape
    for dy in range(reach_px + 1):
        for dx in range(-reach_px if dy else 1, reach_px + 1):
            here = objects[: height - dy, max(0, -dx) : width - max(0, dx)]
            there = objects[dy:, max(0, dx) : width - max(0, -dx)]
            differ = here != there
            first, second = class_of[here[differ]], class_of[there[differ]]
            if ((first == second) & (first >= 0)).any():
                return True
    return False


def _index_objects(
    gt_semantic: NDArray[np.integer], gt_instances: NDArray[np.integer]
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Number the M objects in ascending order of their ids.

    Returns:
        [H, W]: 0 background, 1 to M the objects, M + 1 void; and the objects' classes [M], counted from 0.
    """
    if gt_semantic.shape != gt_instances.shape:
        raise ValueError(f"expected maps of one size, got {gt_semantic.shape} and {gt_instances.shape}")
    present = np.bincount(gt_instances.ravel(), minlength=VOID + 1) > 0
    present[[0, VOID]] = False
    ids = np.flatnonzero(present)
    number = np.zeros(len(present), np.intp)
    number[ids] = np.arange(1, len(ids) + 1)
    number[VOID] = len(ids) + 1
    objects = number[gt_instances]

    num_values = max(VOID, int(gt_semantic.max(initial=0))) + 1
    votes = np.bincount((objects * num_values + gt_semantic).ravel(), minlength=(len(ids) + 2) * num_values)
    votes = votes.reshape(-1, num_values)[1:-1]
    votes[:, [0, VOID]] = 0
    classless = ids[votes.sum(axis=1) == 0]
    if len(classless):
        raise ValueError(f"expected a class under every object, got none under the ids {classless.tolist()}")
    return objects, votes.argmax(axis=1) - 1


def _claim(iou: NDArray[np.float64], order: NDArray[np.intp], threshold: float) -> NDArray[np.bool_]:
    """Let the detections take objects in the given order; return who got one."""
    iou = iou.copy()
    hits = np.zeros(len(iou), bool)
    for detection in order if iou.shape[1] else ():
        best = iou[detection].argmax()
        if iou[detection, best] >= threshold:
            hits[detection] = True
            iou[:, best] = 0
    return hits


def _area_under_curve(hits: NDArray[np.bool_], num_gt: int) -> float:
    """Return the area under precision, made monotone, over recall; each hit adds 1 / num_gt of recall."""
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(envelope[hits].sum() / num_gt)


def _mean(scores: list[float | None]) -> float | None:
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known else None
