"""What one image teaches a network of instances: objects, regions to ignore, and both after augmentation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import masks_to_boxes

from data.dataset import DatasetError, Problem, Sample
from data.formats.coco import read_annotations
from data.formats.images import image_size
from data.formats.label_maps import read_ground_truth, separate_objects, upright
from data.validation import truth_problems
from tasks.training.augment import Image, flip_and_crop, resize


@dataclass(frozen=True, eq=False)
class Instances:
    """The objects of one image; masks may overlap.

    Attributes:
        masks: bool [N, H, W], none of them empty.
        classes: int64 [N], counted from 0.
        ignored: bool [M, H, W], regions that are neither object nor background; none of them empty.
    """

    masks: NDArray[np.bool_]
    classes: NDArray[np.int64]
    ignored: NDArray[np.bool_]


def read_instances(sample: Sample, num_classes: int, *, min_score: float = 0.0) -> Instances:
    """Read the objects of a sample, from its COCO file or its PNGs.

    Ignored are, in a COCO file, detections of a low score, crowds, and objects of categories outside the class
    table; and a whole image whose tags have none of all these: its objects lie somewhere in it, as of a run that
    dropped each as too small. Void pixels of PNGs are not: VOC's lie around its objects, and a box about them holds the
    object too.

    Args:
        sample: Its COCO source brings the class table along.
        num_classes: Foreground classes, the limit of the values in PNGs.
        min_score: A detection that scores lower is ignored; what has no score counts as 1.

    Raises:
        DatasetError: A file cannot be read or an image with labels has none, a mask is of another size than the
            image, or a class lies outside the table.
    """
    if sample.coco is not None:
        return _from_coco(sample, min_score)
    return _from_maps(sample, num_classes)


def jitter(
    image: Image, instances: Instances, scales: tuple[float, float], crop_size: int | None, rng: np.random.Generator
) -> tuple[Image, Instances]:
    """Resize by a factor drawn from `scales`, mirror at random, and cut a square, as `flip_and_crop` does.

    Image and masks are cut alike. What lies outside the square altogether is dropped; around a smaller image the
    square is black and without objects. Without a size for it nothing is cut.
    """
    scale = float(rng.uniform(*scales))
    masks = np.concatenate([instances.masks, instances.ignored]).astype(np.uint8)
    planes = [resize(mask, scale, cv2.INTER_NEAREST) for mask in masks]
    stack = np.dstack([resize(image, scale, cv2.INTER_CUBIC), *planes])
    if crop_size is not None:
        square, _ = flip_and_crop(stack, None, crop_size, rng)
    else:
        square = stack[:, ::-1] if rng.random() < 0.5 else stack
    masks = square[..., 3:].transpose(2, 0, 1).astype(bool)
    num_objects = len(instances.classes)
    return np.ascontiguousarray(square[..., :3]), _without_empty(
        masks[:num_objects], instances.classes, masks[num_objects:]
    )


def target(instances: Instances) -> dict[str, Tensor]:
    """Return what `models.maskrcnn.MaskRCNN` is trained with.

    Returns:
        `boxes` float [N, 4] (x1, y1, x2, y2; the ends exclusive, so that the box about one pixel has area 1), `labels`
        int64 [N] from 1, `masks` uint8 [N, H, W], `ignored` float [M, 4], boxes about the ignored regions.
    """
    masks = torch.from_numpy(instances.masks)
    return {
        "boxes": _boxes(masks),
        "labels": torch.from_numpy(instances.classes) + 1,
        "masks": masks.to(torch.uint8),
        "ignored": _boxes(torch.from_numpy(instances.ignored)),
    }


def _boxes(masks: Tensor) -> Tensor:
    boxes = masks_to_boxes(masks)
    boxes[:, 2:] += 1
    return boxes


def _from_coco(sample: Sample, min_score: float) -> Instances:
    assert sample.coco is not None
    height, width = image_size(sample.image)
    annotations = read_annotations(sample.coco)
    masks = np.array([upright(sample, found.mask) for found in annotations], bool).reshape(-1, height, width)
    taught = np.array(
        [found.index is not None and not found.crowd and found.score >= min_score for found in annotations], bool
    )
    classes = np.array([found.index for found, kept in zip(annotations, taught, strict=True) if kept], np.int64)
    found = _without_empty(masks[taught], classes, masks[~taught])
    if sample.labels and not len(found.classes) + len(found.ignored):
        return replace(found, ignored=np.ones((1, height, width), bool))
    return found


def _from_maps(sample: Sample, num_classes: int) -> Instances:
    truth = read_ground_truth(sample)
    size = image_size(sample.image)
    nothing = np.zeros((0, *size), bool)
    if truth.semantic is None or truth.instances is None:
        if sample.labels:
            raise DatasetError([Problem(sample.image, "expected maps of classes and of instances for it", sample.id)])
        return Instances(nothing, np.zeros(0, np.int64), nothing)
    if problems := truth_problems(sample, truth, size, num_classes + 1):
        raise DatasetError(problems)
    try:
        return Instances(*separate_objects(truth.semantic, truth.instances), nothing)
    except ValueError as error:
        raise DatasetError([Problem(sample.instances or sample.image, str(error), sample.id)]) from error


def _without_empty(masks: NDArray[np.bool_], classes: NDArray[np.int64], ignored: NDArray[np.bool_]) -> Instances:
    kept = masks.any(axis=(1, 2))
    return Instances(masks[kept], classes[kept], ignored[ignored.any(axis=(1, 2))])
