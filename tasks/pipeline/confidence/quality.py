"""Stage `quality`: what is known of each image's labels without ground truth, for the order of review."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from data.dataset import ClassTable, LabelMap, Sample
from data.formats.coco import read_detections
from data.formats.label_folder import CONFIDENCE, DETECTIONS, SEMANTIC
from data.formats.label_maps import read_label_map
from data.formats.quality import QUALITY, ImageQuality, quality_text
from tasks.engine.job import Job
from tasks.pipeline.confidence.odds import expected_iou, expected_ious
from tasks.pipeline.score_maps import MapReader, saliency_factors
from tasks.pipeline.settings import QualityConfig


def measure_quality(job: Job) -> dict[str, Any]:
    """Write `quality.csv`, a line per image.

    Summary: "tags" and "lost", class number -> images with the tag whose attention map of it is not empty, and those of
    them whose label map has no pixel of it.
    """
    config = job.config
    assert isinstance(config, QualityConfig)
    labels_folder = job.input("labels")
    masks = Counter(detection["image"] for detection in read_detections(labels_folder / DETECTIONS))
    rows: list[ImageQuality] = []
    tags, lost = Counter(), Counter()
    with MapReader(job.input("cams") / "cams.safetensors", saliency_factors(job)) as cams:
        for done, sample in enumerate(job.samples, start=1):
            labels, confidence = (_read(labels_folder, kind, sample) for kind in (SEMANTIC, CONFIDENCE))
            maps = cams[sample.id] if sample.id in cams else no_maps()
            shown = [c for c, each in zip(sample.labels, maps, strict=bool(len(maps))) if each.any()]
            tags.update(shown)
            lost.update(c for c in shown if not (labels == c + 1).any())
            rows.append(image_quality(sample, labels, confidence, maps, masks[sample.id], config, job.classes))
            job.progress(done, len(job.samples))
    (job.out / QUALITY).write_text(quality_text(rows), encoding="utf-8")
    return {"tags": dict(tags), "lost": dict(lost)}


def no_maps() -> Float[Tensor, "0 1 1"]:
    """Return the attention maps of an image without tags."""
    return torch.zeros(0, 1, 1)


def image_quality(
    sample: Sample,
    labels: LabelMap,
    confidence: NDArray[np.uint8],
    cams: Float[Tensor, "k h w"],
    masks: int,
    config: QualityConfig,
    classes: ClassTable,
) -> ImageQuality:
    """Return what is known of an image's labels.

    Args:
        sample: Its tags.
        labels: Its class values [H, W].
        confidence: uint8 [H, W]: 255 times the probability that a label is right.
        cams: The attention maps of its tags at stride 4, or `no_maps`.
        masks: Number of its instances.
        config: From which confidence on a pixel is sure.
        classes: Of the set.
    """
    num_values = 1 + len(sample.labels)
    expected = {value: iou for value, iou in expected_ious(labels, confidence, num_values).items() if value}
    weakest = min(expected, key=lambda value: expected[value], default=0)
    return ImageQuality(
        image=sample.id,
        quality=expected_iou(labels, confidence, num_values),
        confidence=float(confidence.mean() / 255),
        unsure=float((confidence < 255 * config.unsure).mean()),
        cam_agreement=cam_agreement(cams, labels, sample.labels),
        foreground=float((labels > 0).mean()),
        masks=masks,
        components=count_components(labels),
        tags_without_a_pixel=sum(not (labels == c + 1).any() for c in sample.labels),
        weakest=classes.names[weakest - 1] if weakest else "",
        weakest_quality=expected.get(weakest, 1.0),
    )


def cam_agreement(cams: Float[Tensor, "k h w"], labels: LabelMap, classes: tuple[int, ...]) -> float:
    """Return the share of labelled cells that the attention maps give the same class.

    The maps' cells are those of the highest scores, as many as the labels have, so that no threshold plays a part. The
    labels are looked at on the maps' grid. An image without tags agrees; one with tags and without a labelled cell does
    not.
    """
    if not classes:
        return 1.0
    values = torch.from_numpy(labels.astype(np.float32))[None, None]
    # Of each cell the pixel in its middle.
    cells = F.interpolate(values, cams.shape[1:], mode="nearest-exact")[0, 0].long()
    count = int((cells > 0).sum())
    if not count or not len(cams):
        return 0.0
    scores, rows = cams.max(dim=0)
    highest = scores.flatten().topk(count).indices
    named = torch.tensor(classes)[rows].flatten()[highest] + 1
    return float((named == cells.flatten()[highest]).float().mean())


def count_components(labels: LabelMap) -> int:
    """Return how many connected areas (4 neighbours) of one class a label map has, background left out."""
    return sum(ndimage.label(labels == value)[1] for value in np.unique(labels) if value)  # pyright: ignore


def _read(folder: Path, kind: str, sample: Sample) -> NDArray[np.unsignedinteger]:
    return read_label_map(folder / kind / f"{sample.id}.png")
