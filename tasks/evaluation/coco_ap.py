"""COCO's average precision of instance masks, by pycocotools."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any, TypedDict, cast

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from data.dataset import VOID
from data.formats.coco import Detection, encode_mask

CocoJson = Mapping[str, Sequence[Mapping[str, Any]]]


class CocoScore(TypedDict):
    """Means over the classes that have ground truth, in [0, 1], None where no class has."""

    ap: float | None
    ap50: float | None
    ap75: float | None


def coco_average_precision(truth: CocoJson, detections: CocoJson) -> CocoScore:
    """Return the average precision of masks at IoU 0.5, 0.55, ..., 0.95 (`ap` is the mean), of objects of any area.

    Of each class in each image the 100 surest detections count; equal scores rank in the order of image ids.

    Args:
        truth: COCO instance JSON, as `data.formats.coco.coco_json` gives it; crowds are regions to be ignored.
        detections: The same with a score each, over the same image and category ids.
    """
    # The library reports its progress by `print`.
    with redirect_stdout(io.StringIO()):
        evaluation = COCOeval(_index(truth), _index(detections), "segm")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
        evaluation.accumulate()
    # [IoU thresholds, recalls, classes, areas, numbers of detections], -1 for a class without ground truth.
    precision = evaluation.eval["precision"]
    known = precision[:, :, (precision >= 0).all(axis=(0, 1, 3, 4))]
    if not known.size:
        return CocoScore(ap=None, ap50=None, ap75=None)
    return CocoScore(ap=float(known.mean()), ap50=float(known[0].mean()), ap75=float(known[5].mean()))


def void_crowds(image: str, instances: NDArray[np.integer], num_classes: int) -> list[Detection]:
    """Return the void pixels (255) of an instance map [H, W] as COCO can say it: a crowd of every class.

    A detection that matches no object is ignored where the share of *its own* pixels in the crowd reaches the IoU
    threshold. This falls short of VOC's rule, which takes void out of every mask: here a detection that is partly
    void keeps those pixels, and its IoU with an object suffers from them.
    """
    void = instances == VOID
    if not void.any():
        return []
    mask = encode_mask(void)
    return [
        Detection({"image": image, "class": index, "score": 1.0, "segmentation": mask, "crowd": True})
        for index in range(num_classes)
    ]


def _index(content: CocoJson) -> COCO:
    coco = COCO()
    # The evaluation adds fields to the annotations.
    annotations = [dict(annotation) for annotation in content["annotations"]]
    coco.dataset = cast(Any, {**content, "annotations": annotations})
    coco.createIndex()
    return coco
