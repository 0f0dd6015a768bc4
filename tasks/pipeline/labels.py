"""Stage `labels`: semantic label maps and instance masks, from the walked scores (Sec. 5.2).

Where a run has a pixel classifier, its probabilities decide the class of each pixel, and the walked scores of the
instances decide which instance of the class the pixel belongs to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from data.dataset import VOID, LabelMap, Sample, value_type
from data.formats.coco import Detection, as_detections, write_detections
from data.formats.hints import Hints, nearest_box
from data.formats.images import image_size
from data.formats.label_folder import CONFIDENCE, DETECTIONS, INSTANCES, SEMANTIC, SURE
from data.formats.label_maps import instance_map, write_label_map
from kernels.crf import marginals_of_many
from tasks.engine.job import Job
from tasks.pipeline.confidence.odds import CALIBRATIONS, as_bytes, calibrated, features_of, log_odds, score_odds
from tasks.pipeline.relations import background_of
from tasks.pipeline.score_maps import strongest, upsample
from tasks.pipeline.second_round import LabelScores
from tasks.pipeline.seeds.hints import hinted_probabilities, hints_of, keep_known
from tasks.pipeline.settings import LabelsConfig
from tasks.pipeline.thresholds import label_thresholds
from tasks.training.working_size import read_working_image, to_size, working_size

LEAST_KEPT = 0.1


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

    def within(self, labels: LabelMap, values: NDArray[np.integer]) -> Instances:
        """Return them with the pixels that a label map gives their class; those that have none left are not there.

        Args:
            labels: [H, W] of the masks' size.
            values: Of background and of each row's class.
        """
        masks = [mask & (labels == values[row + 1]) for mask, row in zip(self.masks, self.rows, strict=True)]
        kept = [place for place, mask in enumerate(masks) if mask.any()]
        found = np.stack([masks[place] for place in kept]) if kept else np.zeros((0, *labels.shape), bool)
        return Instances(found, [self.rows[place] for place in kept], [self.scores[place] for place in kept])


def synthesize_labels(job: Job) -> dict[str, Any]:
    """Write semantic and instance label maps of every image, how sure the former are, and its detections.

    Where a tag has no pixel in the map of sure pixels, or nobody knows all classes of the image, background is not sure
    either, and is void there.

    Summary: "detections", "foreground_share"; "tags", class number -> images that have the tag; "empty", sample id ->
    the classes of its tags that no pixel of its label map has; "unsure", class number -> images with the tag whose map
    of sure pixels has none of it; "shrunk", likewise, of whose label map it has less than `LEAST_KEPT` of the pixels
    that the walk alone would have given it, where there is a second round.
    """
    config = job.config
    assert isinstance(config, LabelsConfig)
    if "label-thresholds" in job.inputs:
        config = label_thresholds(config, job.input("label-thresholds"))
    detections, foreground, tags, unsure, shrunk, empty = [], 0.0, Counter(), Counter(), Counter(), {}
    with LabelScores(job, config) as scores:
        writes_sure = len(thresholds_of(config, by_pixels=scores.second_round)) > 1
        for done, sample in enumerate(job.samples, start=1):
            made = _label_sample(sample, scores, config, job)
            detections += made.detections
            if sample.id in scores:
                tags.update(sample.labels)
                unsure.update(c for c in sample.labels if writes_sure and not (made.sure == c + 1).any())
                present = np.bincount(made.labels.ravel(), minlength=len(job.classes.values))
                if without := [c for c in sample.labels if not present[c + 1]]:
                    empty[sample.id] = without
                walked = scores.walked_shares(sample.id)
                least = [LEAST_KEPT * share * made.labels.size for share in walked]
                shrunk.update(c for c, pixels in zip(sample.labels, least, strict=True) if present[c + 1] < pixels)
            write_label_map(job.out / SEMANTIC / f"{sample.id}.png", made.labels)
            write_label_map(job.out / INSTANCES / f"{sample.id}.png", made.objects)
            write_label_map(job.out / CONFIDENCE / f"{sample.id}.png", made.confidence, grey=True)
            if writes_sure:
                write_label_map(job.out / SURE / f"{sample.id}.png", made.sure)
            foreground += float((made.labels > 0).mean())
            job.progress(done, len(job.samples))
    write_detections(job.out / DETECTIONS, detections)
    (job.out / "settings.json").write_text(config.model_dump_json())
    share = round(foreground / len(job.samples), 4)
    counts = {"tags": dict(tags), "unsure": dict(unsure), "shrunk": dict(shrunk), "empty": empty}
    return {"detections": len(detections), "foreground_share": share, **counts}


@dataclass(frozen=True)
class _Made:
    """What is written of an image: maps [H, W] at its own size, and its detections."""

    labels: LabelMap
    objects: LabelMap
    confidence: NDArray[np.uint8]
    sure: LabelMap
    detections: list[Detection]


def _label_sample(sample: Sample, scores: LabelScores, config: LabelsConfig, job: Job) -> _Made:
    own_size = image_size(sample.image)
    values = np.array([0, *(c + 1 for c in sample.labels)], value_type(len(job.classes.values)))
    if sample.id not in scores:
        nothing = np.zeros(own_size, values.dtype)
        sure = np.full_like(nothing, background_of(sample))
        return _Made(nothing, nothing, np.full(own_size, 255, np.uint8), sure, [])
    size = working_size(own_size, job.long_side)
    hints = hints_of(sample, job.classes)
    maps, by_pixels = deciding_maps(sample, scores, config, hints, size)
    image = read_working_image(sample.image, job.long_side) if config.crf_iterations else None
    decided = decide_rows(maps, size, config, image, by_pixels=by_pixels)
    seen = keep_known(values[decided.rows[0]], sample, hints, outside=0)
    labels = keep_known(to_size(seen, own_size), sample, hints, outside=0)
    sure = labels
    if len(decided.rows) > 1:
        sure = to_size(sure_labels(decided.rows[1], decided.rows[2], values), own_size)
        sure[sure == 0] = background_of(sample)
        sure = keep_known(sure, sample, hints)
    pieces, rows = scores.pieces(sample.id)
    # The values ascend, so that a value's place is its row.
    refined = np.searchsorted(values, seen) if config.crf_iterations or by_pixels or hints else None
    found = instance_masks(pieces, rows, size, config, refined)
    if hints and refined is not None:
        levels = score_levels(maps, by_pixels=by_pixels)
        found = instances_by_boxes(found, refined, hints.at_size(size), sample.labels, levels)
    found = found.at_size(own_size)
    if hints:
        found = found.within(labels, values)
    classes = [sample.labels[row] for row in found.rows]
    confidence = as_bytes(resize_confidence(decided.confidence, own_size))
    detections = as_detections(sample.id, found.masks, classes, found.scores)
    return _Made(labels, instance_map(found.masks), confidence, sure, detections)


def deciding_maps(
    sample: Sample, scores: LabelScores, config: LabelsConfig, hints: Hints | None, size: tuple[int, int]
) -> tuple[Float[Tensor, "k h w"], bool]:
    """Return the maps that decide an image's labels, with what a person said of it, and whether they are probabilities.

    Args:
        sample: Is among the scores.
        scores: Of its shard.
        config: Of the labels, with thresholds that are numbers.
        hints: Of the image, at its own size.
        size: (H, W) of the image as the maps see it.
    """
    maps, by_pixels = scores.deciding(sample.id)
    if hints is None:
        return maps, by_pixels
    threshold = None if by_pixels else float(config.background_threshold)
    boundary = scores.boundary(sample.id)
    return hinted_probabilities(maps, sample.labels, hints, size, threshold=threshold, boundary=boundary), True


def instances_by_boxes(
    found: Instances,
    semantic: NDArray[np.integer],
    hints: Hints,
    labels: Sequence[int],
    scores: Float[Tensor, "k h w"],
) -> Instances:
    """Return instances of which those of classes with boxes are one a box: its pixels of the class.

    Of boxes that overlap a pixel goes to the one whose middle is nearest, by the box's own sides.

    Args:
        found: Those of the image, at the size of `semantic`.
        semantic: [H, W], 1 + the row of a class, 0 for background.
        hints: At this size.
        labels: The class of each row.
        scores: Of each row at stride 4, in [0, 1].
    """
    parts = list(zip(found.masks, found.rows, found.scores, strict=True))
    full = upsample(scores, (semantic.shape[0], semantic.shape[1])).cpu().numpy()
    for row, label in enumerate(labels):
        boxes = [box for box in hints.boxes if box.value == label + 1]
        if boxes:
            owners = nearest_box(boxes, semantic.shape, semantic == row + 1)
            parts = [part for part in parts if part[1] != row]
            masks = [owners == number for number in range(len(boxes))]
            parts += [(mask, row, float(full[row][mask].max())) for mask in masks if mask.any()]
    parts.sort(key=lambda part: -part[2])
    masks = np.stack([part[0] for part in parts]) if parts else np.zeros((0, *semantic.shape), bool)
    return Instances(masks, [part[1] for part in parts], [part[2] for part in parts])


@dataclass(frozen=True)
class Decided:
    """Labels of one image at its working size.

    Attributes:
        rows: int64 [H, W] for each of the thresholds, the labels' own first: 1 + the position of a class among those of
            the image, 0 for background.
        confidence: float [H, W], the probability that the labels' own is right.
        features: float [H, W, 5], what that was made of (`tasks.pipeline.confidence.odds.features_of`).
    """

    rows: list[NDArray[np.int64]]
    confidence: NDArray[np.floating]
    features: NDArray[np.floating]


def decide_rows(
    scores: Float[Tensor, "k h w"],
    size: tuple[int, int],
    config: LabelsConfig,
    image: NDArray[np.uint8] | None,
    *,
    by_pixels: bool,
) -> Decided:
    """Give each pixel of an image its class, at each threshold of the settings, and say how sure that is.

    Args:
        scores: Walked maps of the image's classes at stride 4, or the pixel classifier's probabilities.
        size: (H, W) of the image.
        config: Thresholds, which are numbers, and iterations of the CRF.
        image: RGB [H, W, 3]; needed where there are such iterations.
        by_pixels: Whether the scores are probabilities.
    """
    thresholds = thresholds_of(config, by_pixels=by_pixels)
    full = upsample(scores, size)
    levels = score_levels(full, by_pixels=by_pixels)
    rows = [strongest(levels, threshold)[0].cpu().numpy() for threshold in thresholds]
    crf = None
    if config.crf_iterations:
        assert image is not None
        found = marginals_of_many(image, rows, [len(scores) + 1] * len(rows), config.crf_iterations)
        # Torch's is several times as fast as numpy's here.
        best = [torch.from_numpy(marginals).max(0) for marginals in found]
        rows, crf = [each.indices.numpy() for each in best], log_odds(best[0].values)
    odds = score_odds((full if by_pixels else levels).cpu(), rows[0], thresholds[0], by_pixels=by_pixels)
    features = features_of(odds, crf, rows[0])
    lacks = not np.bincount(rows[0].ravel(), minlength=len(scores) + 1)[1:].all()
    calibration = CALIBRATIONS[by_pixels, bool(config.crf_iterations)]
    return Decided(rows, calibrated(features, calibration, lacks_a_tag=lacks), features)


def resize_confidence(confidence: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.floating]:
    """Bring a map of probabilities to a size (H, W)."""
    if confidence.shape == size:
        return confidence
    interpolation = cv2.INTER_AREA if size[0] < confidence.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(confidence.astype(np.float32), size[::-1], interpolation=interpolation)).clip(0, 1)


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
    rows, _ = strongest(score_levels(upsample(scores, size), by_pixels=False), background_threshold)
    return rows.cpu().numpy()


def score_levels(scores: Float[Tensor, "k h w"], *, by_pixels: bool) -> Float[Tensor, "k h w"]:
    """Return what background thresholds are compared with at each pixel, in [0, 1].

    Walked scores are divided by the image's highest. A probability p competes with background's, b, alone: p / (p + b).
    So a pixel that several classes claim is not background because none of them has most of it.
    """
    if not len(scores):
        return scores
    if not by_pixels:
        return scores / scores.max().clamp(min=1e-12)
    background = (1 - scores.sum(dim=0)).clamp(min=0)
    return scores / (scores + background).clamp(min=1e-12)


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
