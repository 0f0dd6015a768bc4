"""Stage `labels`: semantic label maps and instance masks, from the walked scores (Sec. 5.2).

Where a run has a pixel classifier, its probabilities decide the class of each pixel, and the walked scores of the
instances decide which instance of the class the pixel belongs to.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from data.dataset import VOID, value_type
from data.formats.coco import encode_mask, write_detections
from data.formats.images import image_size
from data.formats.label_folder import DETECTIONS, INSTANCES, SEMANTIC, SURE
from data.formats.label_maps import instance_map, write_label_map
from kernels.crf import refine_many
from tasks.engine.job import Job
from tasks.pipeline.score_maps import (
    MapReader,
    saliency_prior,
    strongest,
    upsample,
)
from tasks.pipeline.second_round import SecondRound
from tasks.pipeline.settings import LabelsConfig
from tasks.pipeline.thresholds import label_thresholds
from tasks.training.working_size import read_working_image, to_size, working_size


@dataclass(frozen=True)
class Instances:
    """Detections of one image, by descending score.

    Attributes:
        masks: bool [N, H, W], disjoint.
        rows: The position of each one's class in the image's labels.
        scores: In [0, 1]: the highest value of its map within the mask.
    """

    masks: NDArray[np.bool_]
    rows: list[int]
    scores: list[float]

    def at_size(self, size: tuple[int, int]) -> Instances:
        """Return them with masks of another size (H, W); they stay disjoint."""
        if self.masks.shape[1:] == size or not len(self.masks):
            return Instances(self.masks.reshape(-1, *size), self.rows, self.scores)
        owners = np.zeros(self.masks.shape[1:], np.uint16)
        for number, mask in enumerate(self.masks, start=1):
            owners[mask] = number
        owners = to_size(owners, size)
        numbers = [number for number in range(1, len(self.masks) + 1) if (owners == number).any()]
        kept = [number - 1 for number in numbers]
        masks = np.stack([owners == number for number in numbers]) if numbers else np.zeros((0, *size), bool)
        return Instances(masks, [self.rows[i] for i in kept], [self.scores[i] for i in kept])


def synthesize_labels(job: Job) -> dict[str, Any]:
    """Write semantic and instance label maps of every image, and its detections.

    Where a tag has no pixel in the map of sure pixels, background is not sure either, and is void there.

    Summary: "detections", "foreground_share"; "tags", class number -> images that have the tag; "empty", sample id ->
    the classes of its tags that no pixel of its label map has; "unsure", class number -> images with the tag whose map
    of sure pixels has none of it.
    """
    config = job.config
    assert isinstance(config, LabelsConfig)
    if "label-thresholds" in job.inputs:
        config = label_thresholds(config, job.input("label-thresholds"))
    walk = job.input("walk")
    rows_of = json.loads((walk / "instances.json").read_text())
    detections, foreground, tags, unsure, empty = [], 0.0, Counter(), Counter(), {}
    prior = saliency_prior(job)
    factors = prior and prior.factors
    # A piece is weighted as its class is.
    of_pieces = factors and (lambda id: factors(id)[rows_of[id]])
    second = _second_round(job, config)
    writes_sure = len(thresholds_of(config, by_pixels=second is not None)) > 1
    with (
        MapReader(walk / "semantic.safetensors", factors) as walked,
        MapReader(walk / "instances.safetensors", of_pieces) as instances,
        second or contextlib.nullcontext(),
    ):
        for done, sample in enumerate(job.samples, start=1):
            own_size = image_size(sample.image)
            size = working_size(own_size, job.long_side)
            values = np.array([0, *(c + 1 for c in sample.labels)], value_type(len(job.classes.values)))
            labels, objects, sure = (np.zeros(own_size, values.dtype) for _ in range(3))
            if sample.id in walked:
                scores = second.probabilities(sample.id) if second else None
                by_pixels = scores is not None
                decide, scores = (semantic_rows, walked[sample.id]) if scores is None else (pixel_rows, scores)
                rows = [decide(scores, size, threshold) for threshold in thresholds_of(config, by_pixels=by_pixels)]
                if config.crf_iterations:
                    image, counts = read_working_image(sample.image, job.long_side), [len(values)] * len(rows)
                    rows = refine_many(image, rows, counts, iterations=config.crf_iterations)
                refined = rows[0] if config.crf_iterations or by_pixels else None
                labels = to_size(values[rows[0]], own_size)
                sure = labels if len(rows) == 1 else to_size(sure_labels(rows[1], rows[2], values), own_size)
                if writes_sure:
                    unsure.update(c for c in sample.labels if not (sure == c + 1).any())
                found = instance_masks(instances[sample.id], rows_of[sample.id], size, config, refined)
                found = found.at_size(own_size)
                objects = instance_map(found.masks)
                detections += [
                    {
                        "image": sample.id,
                        "class": sample.labels[row],
                        "score": round(score, 6),
                        "segmentation": encode_mask(mask),
                    }
                    for mask, row, score in zip(found.masks, found.rows, found.scores, strict=True)
                ]
                present = np.bincount(labels.ravel(), minlength=len(job.classes.values))
                if without := [c for c in sample.labels if not present[c + 1]]:
                    empty[sample.id] = without
                tags.update(sample.labels)
            write_label_map(job.out / SEMANTIC / f"{sample.id}.png", labels)
            write_label_map(job.out / INSTANCES / f"{sample.id}.png", objects)
            if writes_sure:
                write_label_map(job.out / SURE / f"{sample.id}.png", sure)
            foreground += float((labels > 0).mean())
            job.progress(done, len(job.samples))
    write_detections(job.out / DETECTIONS, detections)
    (job.out / "settings.json").write_text(config.model_dump_json())
    share = round(foreground / len(job.samples), 4)
    counts = {"tags": dict(tags), "unsure": dict(unsure), "empty": empty}
    return {"detections": len(detections), "foreground_share": share, **counts}


def _second_round(job: Job, config: LabelsConfig) -> SecondRound | None:
    if "pixel-scores" not in job.inputs:
        return None
    assert config.background_threshold != "auto"
    return SecondRound(job, config.background_threshold, config.walk_power)


def sure_labels(
    rows: NDArray[np.integer], others: NDArray[np.integer], values: NDArray[np.integer]
) -> NDArray[np.integer]:
    """Return the values of the pixels whose row is the same twice, and void elsewhere.

    Background is void too where a class has no pixel: the class lies somewhere in it.

    Args:
        rows: [H, W], 0 for background, k for `values[k]`.
        others: The same under another threshold.
        values: [1 + K], 0 first, then those of the image's classes.
    """
    void = values.dtype.type(VOID)
    sure = np.where(rows == others, values[rows], void)
    if not np.isin(values[1:], sure).all():
        sure[sure == 0] = void
    return sure


def thresholds_of(config: LabelsConfig, *, by_pixels: bool = False) -> tuple[float, ...]:
    """Return the background threshold of the labels, and the two of what is sure where there are any.

    Args:
        config: Of the labels.
        by_pixels: Those of the pixel classifier's probabilities instead of the walked scores'.

    Raises:
        ValueError: They are not numbers yet.
    """
    if by_pixels:
        return (config.pixel_threshold, *config.sure_pixel_thresholds)
    if config.background_threshold == "auto" or config.sure_thresholds == "auto":
        raise ValueError("thresholds that are chosen from the data are known after stage `label-thresholds`")
    return (config.background_threshold, *(config.sure_thresholds or ()))


def semantic_rows(
    scores: Float[Tensor, "k h w"], size: tuple[int, int], background_threshold: float
) -> NDArray[np.int64]:
    """Return for each pixel 1 + the row of the strongest class, 0 for background.

    The maps are upsampled to (H, W) and divided by their highest value first.
    """
    full = upsample(scores, size)
    if len(full):
        full = full / full.max().clamp(min=1e-12)
    rows, _ = strongest(full, background_threshold)
    return rows.cpu().numpy()


def pixel_rows(
    probabilities: Float[Tensor, "k h w"], size: tuple[int, int], background_threshold: float
) -> NDArray[np.int64]:
    """Return for each pixel 1 + the row of the most probable class, 0 where none exceeds the threshold."""
    rows, _ = strongest(upsample(probabilities, size), background_threshold)
    return rows.cpu().numpy()


def instance_masks(
    pieces: Float[Tensor, "n h w"],
    rows: list[int],
    size: tuple[int, int],
    config: LabelsConfig,
    semantic: NDArray[np.integer] | None = None,
) -> Instances:
    """Return the instances of one image.

    Each pixel goes to the strongest map, or to background; every connected component (4 neighbours) of a map's
    pixels is one detection, as in the reference, unless it is smaller than `config.min_area` of the image, and than
    `config.min_area_of_largest` of the largest component.

    Args:
        pieces: Walked maps at stride 4.
        rows: The class of each piece, as its position in the image's labels.
        size: (H, W) of the image.
        config: Threshold and least area.
        semantic: Refined labels [H, W], 1 + a row or 0 for background, which then decide in the threshold's
            place: a pixel goes to the strongest map of its own class.
    """
    if not rows:
        return Instances(np.zeros((0, *size), bool), [], [])
    full = upsample(pieces, size)
    full /= full.max().clamp(min=1e-12)
    threshold, *_ = thresholds_of(config)
    if semantic is not None:
        own_class = 1 + torch.tensor(rows)[:, None, None] == torch.from_numpy(semantic)
        own_class = own_class.to(full.device)
        full, threshold = torch.where(own_class, full, 0), 0.0
    owner, strength = strongest(full, threshold)
    owners, strengths = owner.cpu().numpy(), strength.cpu().numpy()
    components = []
    for piece, box in enumerate(ndimage.find_objects(owners), start=1):
        if box is not None:
            parts, num_parts = ndimage.label(owners[box] == piece)  # pyright: ignore[reportGeneralTypeIssues]
            areas = np.bincount(parts.ravel(), minlength=num_parts + 1)
            components += [(piece, box, parts, part, areas[part]) for part in range(1, num_parts + 1)]
    least_area = config.min_area * owners.size
    if config.min_area_of_largest is not None:
        largest = max((area for *_, area in components), default=0)
        least_area = min(least_area, config.min_area_of_largest * largest)
    masks, classes, scores = [], [], []
    for piece, box, parts, part, area in components:
        if area >= least_area:
            mask = np.zeros(size, bool)
            mask[box] = parts == part
            masks.append(mask)
            classes.append(rows[piece - 1])
            scores.append(float(strengths[mask].max()))
    order = np.argsort(scores, kind="stable")[::-1] if scores else []
    return Instances(
        np.stack([masks[i] for i in order]) if masks else np.zeros((0, *size), bool),
        [classes[i] for i in order],
        [scores[i] for i in order],
    )
