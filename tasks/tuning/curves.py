"""What the labels of one image are at every threshold: counted against ground truth, and judged without.

One way through the pixels tells all thresholds apart: a pixel has its strongest class at the thresholds under its score
and is background at the others. A dense CRF moves borders at each threshold anew, but what the image decides of it is
computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from data.dataset import VOID, LabelMap, Sample
from data.formats.hints import Hints
from data.formats.label_maps import read_ground_truth
from kernels.crf import refine_many
from tasks.pipeline.labels import score_levels
from tasks.pipeline.score_maps import strongest, upsample
from tasks.pipeline.seeds.hints import hinted_probabilities, keep_known
from tasks.pipeline.thresholds import colour_contrast
from tasks.training.working_size import file_working_size, read_working_image

CRITERIA = ("contrast", "cams", "crf", "tags")
"""What labels are judged by without ground truth, each in [0, 1]: the share of the colours' variance that lies between
foreground and background; the agreement of the foreground with that of the attention maps; with itself before the dense
CRF; the share of the tags whose area is plausible."""
PLAUSIBLE = (0.005, 0.9)
"""Least and largest share of an image that a tag may have."""
REFERENCE_ITERATIONS = 5
"""Of the CRF that labels without one are compared with."""


@dataclass(frozen=True)
class ImageScores:
    """What decides the labels of an image.

    Attributes:
        maps: Walked maps of its classes at stride 4, or probabilities; none of an image without tags.
        by_pixels: Whether they are probabilities.
        cams: Attention maps of the same classes.
        hints: What a person said of the image's pixels, at its own size.
        boundary: Probabilities of a class boundary at stride 4, within which strokes grow.
    """

    sample: Sample
    maps: Float[Tensor, "k h w"] | None
    by_pixels: bool
    cams: Float[Tensor, "k h w"] | None
    hints: Hints | None = None
    boundary: Float[Tensor, "h w"] | None = None


@dataclass(frozen=True)
class Measuring:
    """How images are measured.

    Attributes:
        thresholds: Background thresholds, ascending.
        iterations: Of the dense CRF after them; 0 for none.
        walk_threshold: Threshold of images that the pixel classifier has not judged, in place of all; None where
            walked scores decide throughout.
        cam_threshold: Background threshold of the attention maps.
        num_values: Values of a label map, background counted.
        long_side: Range of the size at which images are worked on.
        judge: Measure `CRITERIA` too.
        pixel_threshold: Threshold of images with hints, whose walked scores are probabilities once these are in; None
            where it is one of those that are measured.
    """

    thresholds: tuple[float, ...]
    iterations: int
    walk_threshold: float | None
    cam_threshold: float
    num_values: int
    long_side: tuple[int, int] | None
    judge: bool
    pixel_threshold: float | None = None


class ImageCurves(NamedTuple):
    """What there is of one image, at T thresholds and for V values of a label map.

    Attributes:
        hits: int64 [T, V], pixels that have the value in labels and ground truth; those of void are not counted.
        found: int64 [T, V], pixels that have it in the labels.
        true: int64 [V], pixels that have it in the ground truth; all 0 without any.
        merits: float64 [T, M], the `CRITERIA`; NaN where they were not measured.
    """

    hits: NDArray[np.int64]
    found: NDArray[np.int64]
    true: NDArray[np.int64]
    merits: NDArray[np.float64]


def measure_image(scores: ImageScores, how: Measuring) -> ImageCurves:
    """Measure the labels of an image at all thresholds, at the size at which it is worked on.

    Raises:
        DatasetError: The image or its ground truth cannot be read.
    """
    sample, count = scores.sample, len(how.thresholds)
    size = file_working_size(sample.image, how.long_side)
    truth = truth_at(sample, size)
    values = np.array([0, *(c + 1 for c in sample.labels)])
    if scores.maps is None:
        rows: Sequence[NDArray[np.integer]] = [np.zeros(size, np.int64)] * count
        return ImageCurves(*_count(rows, values, truth, how.num_values), np.full((count, len(CRITERIA)), np.nan))
    thresholds = how.thresholds
    if how.walk_threshold is not None and not scores.by_pixels:
        thresholds = (how.walk_threshold,) * count
    levels = score_levels(upsample(scores.maps, size), by_pixels=scores.by_pixels)
    if not how.iterations and not how.judge and scores.hints is None:
        counted = count_at_thresholds(levels, values, truth, thresholds, how.num_values)
        return ImageCurves(*counted, np.full((count, len(CRITERIA)), np.nan))
    image = read_working_image(sample.image, how.long_side) if how.iterations or how.judge else None
    if scores.hints is None:
        masks = [strongest(levels, threshold)[0].numpy() for threshold in thresholds]
    else:
        masks = _hinted_masks(scores, scores.hints, size, how)
    # The attention maps' mask goes along, so that both are compared at the image's edges.
    along = [_cam_mask(scores.cams, size, how.cam_threshold)] if how.judge and scores.cams is not None else []
    counts = [len(values)] * (count + len(along))
    refined = [*masks, *along]
    if image is not None:
        refined = refine_many(image, refined, counts, iterations=how.iterations or REFERENCE_ITERATIONS)
    final = refined[:count] if how.iterations else masks
    if scores.hints is not None:
        # As the labels: what a person said goes over all.
        kept = (keep_known(values[rows], sample, scores.hints, outside=0) for rows in final)
        final = [np.searchsorted(values, each) for each in kept]
    merits = np.full((count, len(CRITERIA)), np.nan)
    if how.judge and image is not None:
        merits = _judge(image, masks, final, refined, len(values))
    return ImageCurves(*_count(final, values, truth, how.num_values), merits)


def _hinted_masks(scores: ImageScores, hints: Hints, size: tuple[int, int], how: Measuring) -> list[NDArray[np.int64]]:
    """Return the rows of an image with hints at each threshold [H, W], as stage `labels` decides them.

    Walked scores and their threshold become probabilities, which `how.pixel_threshold` decides.
    """
    assert scores.maps is not None
    decides = how.pixel_threshold
    fixed = None if scores.by_pixels else how.walk_threshold
    masks, levels = [], None
    for threshold in how.thresholds:
        if levels is None or decides is not None:
            walk_threshold = fixed if decides is None else threshold
            maps = hinted_probabilities(
                scores.maps, scores.sample.labels, hints, size, threshold=walk_threshold, boundary=scores.boundary
            )
            levels = score_levels(upsample(maps, size), by_pixels=True)
        masks.append(strongest(levels, threshold if decides is None else decides)[0].numpy())
    return masks


def count_at_thresholds(
    levels: Float[Tensor, "k h w"],
    values: Int[np.ndarray, " rows"],
    truth: Int[np.ndarray, "h w"] | None,
    thresholds: Sequence[float],
    num_values: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return hits, found and true pixels of `ImageCurves`, without a CRF, from one histogram of the scores.

    Args:
        levels: Scores of the image's classes.
        values: Value of background and of each class.
        truth: Values of the ground truth, `VOID` where nothing counts; None without any.
        thresholds: Ascending; a class has the pixels whose score exceeds them.
        num_values: Of a label map.
    """
    rows, scores = strongest(levels, -1.0)
    # A pixel has its class at the first so many thresholds, which are under its score, and is background at the others.
    reached = np.searchsorted(np.asarray(thresholds, np.float32), scores.numpy(), side="left")
    known = np.ones(reached.shape, bool) if truth is None else truth != VOID
    reached, own = reached[known], values[rows.numpy()[known]]
    num_bins = len(thresholds) + 1
    found = _above(_histogram(own, reached, num_values, num_bins))
    found[:, 0] = np.bincount(reached, minlength=num_bins).cumsum()[:-1]
    if truth is None:
        return np.zeros_like(found), found, np.zeros(num_values, np.int64)
    present = truth[known]
    right = own == present
    hits = _above(_histogram(own[right], reached[right], num_values, num_bins))
    hits[:, 0] = np.bincount(reached[present == 0], minlength=num_bins).cumsum()[:-1]
    return hits, found, _pixels_of(present, num_values)


def _histogram(
    values: NDArray[np.integer], bins: NDArray[np.integer], num_values: int, num_bins: int
) -> NDArray[np.int64]:
    """Count pairs of value and bin."""
    flat = values.astype(np.int64) * num_bins + bins
    return np.bincount(flat, minlength=num_values * num_bins).reshape(num_values, num_bins)


def _above(histogram: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return [T, V] from counts [V, T + 1]: pixels whose bin lies above each threshold."""
    return histogram[:, ::-1].cumsum(axis=1)[:, -2::-1].T.copy()


def _count(
    rows: Sequence[NDArray[np.integer]], values: NDArray[np.integer], truth: LabelMap | None, num_values: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return hits, found and true pixels of `ImageCurves`, map by map."""
    hits, found = (np.zeros((len(rows), num_values), np.int64) for _ in range(2))
    known = np.ones(rows[0].shape, bool) if truth is None else truth != VOID
    present = None if truth is None else truth[known]
    for number, each in enumerate(rows):
        own = values[each[known]]
        found[number] = _pixels_of(own, num_values)
        if present is not None:
            hits[number] = _pixels_of(own[own == present], num_values)
    return hits, found, np.zeros(num_values, np.int64) if present is None else _pixels_of(present, num_values)


def _pixels_of(values: NDArray[np.integer], num_values: int) -> NDArray[np.int64]:
    return np.bincount(values, minlength=num_values)[:num_values].astype(np.int64)


def _judge(
    image: NDArray[np.uint8],
    masks: Sequence[NDArray[np.integer]],
    final: Sequence[NDArray[np.integer]],
    refined: Sequence[NDArray[np.integer]],
    num_rows: int,
) -> NDArray[np.float64]:
    """Return the `CRITERIA` of masks [T, M]; `refined` has one mask more where there are attention maps."""
    merits = np.full((len(masks), len(CRITERIA)), np.nan)
    merits[:, 0] = colour_contrast(image, final)
    if len(refined) > len(masks):
        merits[:, 1] = [_overlap(mask, refined[-1]) for mask in final]
    merits[:, 2] = [_overlap(before, after) for before, after in zip(masks, refined, strict=False)]
    for number, mask in enumerate(final):
        shares = np.bincount(mask.ravel(), minlength=num_rows)[1:] / mask.size
        merits[number, 3] = ((shares >= PLAUSIBLE[0]) & (shares <= PLAUSIBLE[1])).mean()
    return merits


def _overlap(first: NDArray[np.integer], second: NDArray[np.integer]) -> float:
    """Return the intersection over union of two foregrounds; two empty ones agree."""
    union = int(((first > 0) | (second > 0)).sum())
    return int(((first > 0) & (second > 0)).sum()) / union if union else 1.0


def _cam_mask(cams: Float[Tensor, "k h w"], size: tuple[int, int], threshold: float) -> NDArray[np.int64]:
    return strongest(upsample(cams, size), threshold)[0].numpy()


def truth_at(sample: Sample, size: tuple[int, int]) -> LabelMap | None:
    """Return an image's ground truth at a size; None without any."""
    if not any((sample.semantic, sample.coco)):
        return None
    truth = read_ground_truth(sample).semantic
    if truth is None or truth.shape == size:
        return truth
    return np.asarray(cv2.resize(truth, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT), truth.dtype)
