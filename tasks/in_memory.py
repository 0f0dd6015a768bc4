"""Labels of images in memory, without a store: from CAMs and boundaries, and by a trained network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from data.cam_maps import has_proportions
from data.dataset import VOID, LabelMap, value_type
from data.formats.label_maps import instance_map
from kernels.random_walk import propagate_batch
from models.inference import prepare_inference
from models.segmenter import Segmenter
from tasks.networks.loading import load_trained
from tasks.networks.stages.examples import view_of
from tasks.networks.stages.segmentation import as_labels, class_probabilities, refine_classes
from tasks.networks.trainer import SegmentationConfig
from tasks.pipeline.confidence.odds import as_bytes
from tasks.pipeline.labels import Instances, decide_rows, instance_masks, thresholds_of
from tasks.pipeline.score_maps import grid_size
from tasks.pipeline.settings import LabelsConfig, WalkConfig
from tasks.pipeline.thresholds import LoadImage, agreement_curves, contrast_curves, spread_out, steadied
from tasks.pipeline.walk import sum_rows, walk_batch

Shrink = Callable[[Tensor, tuple[int, int]], Tensor]


@dataclass(frozen=True)
class ImageLabels:
    """Labels of one image.

    Attributes:
        semantic: uint8 or uint16 [H, W]: 0 background, k + 1 where row k of the CAMs is.
        confidence: uint8 [H, W]: 255 times the probability that the pixel's semantic label is right.
        masks: bool [N, H, W] of the instances, by descending score; N is 0 without a displacement field.
        rows: The row of the CAMs that each instance is of.
        scores: The instances' scores in [0, 1].
    """

    semantic: LabelMap
    confidence: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    rows: list[int]
    scores: list[float]

    @property
    def instances(self) -> LabelMap:
        """uint8 or uint16 [H, W]: 0 background, ids from 1 in the order of `masks`; 255 is left out."""
        return instance_map(self.masks)


@dataclass(frozen=True)
class Walked:
    """One image's scores, before and after the walk.

    Attributes:
        cams: Of its K classes, on the stride-4 grid [K, h, w].
        scores: Of the walk [n, h, w]: a row per class, or with a displacement field a row per piece of one.
        rows: The row of `cams` that each row of `scores` is of.
    """

    cams: Float[Tensor, "k h w"]
    scores: Float[Tensor, "n h w"]
    rows: list[int]

    @property
    def by_class(self) -> Float[Tensor, "k h w"]:
        """Each class's walked scores."""
        return sum_rows(self.scores, self.rows, len(self.cams))


def refine_cams(
    images: Sequence[NDArray[np.uint8]],
    cams: Sequence[Any],
    boundaries: Sequence[Any],
    displacements: Sequence[Any] | None,
    walk: WalkConfig,
    labels: LabelsConfig,
    device: str = "cpu",
) -> list[ImageLabels]:
    """Walk the CAMs of images (IRNet, Eq. 11 to 13), and make labels of the result (Sec. 5.2).

    Args:
        images: RGB, uint8 [H, W, 3], of any sizes.
        cams: For each image scores [K, h, w] of its classes, from 0, each class's highest at 1 or less. They are
            brought to the stride-4 grid, h = ceil(H / 4), w = ceil(W / 4): larger ones by the mean of each cell.
        boundaries: For each image the probability of a class boundary [h, w]; larger ones by the maximum of each cell,
            so that thin lines stay closed.
        displacements: For each image a displacement field (dy, dx) [2, h, w] in pixels of the stride-4 grid, of that
            very size; None for no instances.
        walk: Settings of the walk.
        labels: Threshold, dense CRF and least area of instances; the threshold is a number.
        device: "cpu" or "cuda".

    Raises:
        ValueError: A shape or a value is not as said; names the image by its position.
    """
    thresholds_of(labels)
    images = _listed("images", images)
    walked = walk_cams(images, cams, boundaries, displacements, walk, device)
    return [
        label_walked(image, one, labels, instances=displacements is not None)
        for image, one in zip(images, walked, strict=True)
    ]


@torch.no_grad()
def walk_cams(
    images: Sequence[NDArray[np.uint8]],
    cams: Sequence[Any],
    boundaries: Sequence[Any],
    displacements: Sequence[Any] | None,
    walk: WalkConfig,
    device: str = "cpu",
) -> list[Walked]:
    """Walk the CAMs of images (IRNet, Eq. 11 to 13). Arguments and errors are those of `refine_cams`."""
    images, cams, boundaries = _listed("images", images), _listed("cams", cams), _listed("boundary", boundaries)
    displacements = None if displacements is None else _listed("displacement", displacements)
    for name, given in (("cams", cams), ("boundary", boundaries), ("displacement", displacements)):
        if given is not None and len(given) != len(images):
            raise ValueError(f"{name}: expected one for each of {len(images)} images, got {len(given)}")
    sizes = [_checked_image(image, place) for place, image in enumerate(images)]
    grids = [grid_size(size) for size in sizes]
    maps = [
        _on_grid(_scores(one, size, place), grid, F.adaptive_avg_pool2d).to(device)
        for place, (one, size, grid) in enumerate(zip(cams, sizes, grids, strict=True))
    ]
    walls = [
        _on_grid(_probabilities(one, size, place)[None], grid, F.adaptive_max_pool2d)[0].to(device)
        for place, (one, size, grid) in enumerate(zip(boundaries, sizes, grids, strict=True))
    ]
    if displacements is None:
        options = {"radius": walk.radius_px, "beta": walk.beta, "steps": walk.steps, "tolerance": walk.tolerance}
        pieces = [(one, list(range(len(one)))) for one in propagate_batch(maps, walls, **options)]
    else:
        fields = [
            _field(one, grid, i).to(device) for i, (one, grid) in enumerate(zip(displacements, grids, strict=True))
        ]
        pieces = walk_batch(maps, walls, fields, walk)
    return [Walked(one, scores, rows) for one, (scores, rows) in zip(maps, pieces, strict=True)]


def with_threshold(labels: LabelsConfig, images: Sequence[LoadImage], walked: Sequence[Walked]) -> LabelsConfig:
    """Return settings whose background threshold is chosen, as by the stages of `tasks.pipeline.thresholds`.

    Args:
        labels: Settings; at most `threshold_images` of the images are looked at.
        images: Each returns an RGB image [H, W, 3].
        walked: Their scores.
    """
    some = [pair for pair in zip(images, walked, strict=True) if len(pair[1].cams)]
    some = spread_out(some, labels.threshold_images)
    loads, cams = [load for load, _ in some], [one.cams.float().cpu() for _, one in some]
    iterations = labels.crf_iterations or 5
    of_cams = contrast_curves(loads, cams, iterations=iterations)
    scores = [one.by_class.float().cpu() for _, one in some]
    of_scores = agreement_curves(loads, scores, cams, of_cams.threshold, iterations=iterations)
    return labels.model_copy(update={"background_threshold": steadied(of_scores.threshold, len(some))})


def label_walked(image: NDArray[np.uint8], walked: Walked, config: LabelsConfig, *, instances: bool) -> ImageLabels:
    """Make labels of an image's walked scores (IRNet, Sec. 5.2).

    Args:
        image: RGB, uint8 [H, W, 3].
        walked: Its scores.
        config: Threshold, a number; dense CRF; least area of instances.
        instances: Whether the scores are those of pieces.
    """
    size, num_rows = (image.shape[0], image.shape[1]), len(walked.cams)
    found = Instances(np.zeros((0, *size), bool), [], [])
    if num_rows == 0:
        return ImageLabels(np.zeros(size, np.uint8), np.full(size, 255, np.uint8), found.masks, [], [])
    decided = decide_rows(walked.by_class, size, config, image, by_pixels=False)
    semantic, sure = decided.rows[0], as_bytes(decided.confidence)
    if instances:
        shape = semantic if config.crf_iterations else None
        found = instance_masks(walked.scores, walked.rows, size, config, shape)
    return ImageLabels(semantic.astype(value_type(num_rows + 1)), sure, found.masks, found.rows, found.scores)


class Predictor:
    """A semantic segmentation network that was trained here, and how it is applied.

    Args:
        folder: Has `network.safetensors` and `network.json`.
        network: Its name in `tasks.networks.NETWORKS`.
        testing: Scales, flip and dense CRF of inference.
        device: "cpu" or "cuda".

    Raises:
        DatasetError: The files are not those of a segmentation network of this version.
    """

    def __init__(self, folder: Path, network: str, testing: SegmentationConfig, device: str = "cpu") -> None:
        net = load_trained(network, folder, device)
        assert isinstance(net, Segmenter)
        self.image_size = net.image_size
        self.net = prepare_inference(net)
        self.testing = testing
        self.device = device

    def __call__(self, image: NDArray[np.uint8]) -> LabelMap:
        """Return the class values uint8 or uint16 [H, W] of an RGB image uint8 [H, W, 3].

        Raises:
            ValueError: The image is of another shape or type.
        """
        _checked_image(image, 0)
        testing = self.testing
        views = [view_of(self.image_size, testing.scales, image)]
        (found,) = class_probabilities(self.net, views, self.device, mirror=testing.mirror, precision=testing.precision)
        if testing.crf_iterations:
            found = refine_classes(image, found, testing.crf_iterations)
        return as_labels(found.argmax(0), len(found))


def _checked_image(image: NDArray[np.uint8], place: int) -> tuple[int, int]:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"image {place}: expected RGB, uint8 [H, W, 3], got {found}")
    return image.shape[0], image.shape[1]


def _listed(name: str, given: Any) -> list[Any]:
    """Return what is given for each image, as a list."""
    if given is None or isinstance(given, str | bytes | Mapping):
        raise ValueError(f"{name}: expected a sequence of arrays, one for each image, got {type(given).__name__}")
    return list(given)


def _scores(cams: Any, size: tuple[int, int], place: int) -> Float[Tensor, "k h w"]:
    maps = torch.as_tensor(cams, dtype=torch.float32)
    expected = f"expected scores [K, h, w] from 0, K under {VOID}"
    if maps.ndim == 3:
        first, second, third = maps.shape
        # Of [h, w, K] the last is the shortest.
        others = [(third, second), (first, second)] if third < min(first, second) else [(third, second)]
        _refuse_turned(f"cams {place}: {expected}", maps, (second, third), others, size)
    if maps.ndim != 3 or len(maps) >= VOID or not maps.isfinite().all() or (maps < 0).any():
        raise ValueError(f"cams {place}: {expected}, got {list(maps.shape)} {_range(maps)}")
    return maps


def _probabilities(boundary: Any, size: tuple[int, int], place: int) -> Float[Tensor, "h w"]:
    found = torch.as_tensor(boundary, dtype=torch.float32)
    expected = f"boundary {place}: expected probabilities [h, w] in [0, 1]"
    if found.ndim != 2 or not ((found >= 0) & (found <= 1)).all():
        raise ValueError(f"{expected}, got {list(found.shape)} {_range(found)}")
    shape = (found.shape[0], found.shape[1])
    _refuse_turned(expected, found, shape, [(shape[1], shape[0])], size)
    return found


def _refuse_turned(
    expected: str, found: Tensor, shape: tuple[int, int], others: Sequence[tuple[int, int]], size: tuple[int, int]
) -> None:
    """Refuse maps whose axes lie otherwise: of other proportions than the image (H, W), which `others` would have."""
    if found.numel() and not has_proportions(shape, size) and any(has_proportions(other, size) for other in others):
        raise ValueError(
            f"{expected}, got {list(found.shape)} for an image of {list(size)}: the axes lie in another order"
        )


def _field(displacement: Any, grid: tuple[int, int], place: int) -> Float[Tensor, "2 h w"]:
    found = torch.as_tensor(displacement, dtype=torch.float32)
    if tuple(found.shape) != (2, *grid) or not found.isfinite().all():
        raise ValueError(
            f"displacement {place}: expected (dy, dx) {[2, *grid]} in pixels of the stride-4 grid, got "
            f"{list(found.shape)} {_range(found)}"
        )
    return found


def _range(values: Tensor) -> str:
    if not values.numel():
        return "without values"
    finite = values[values.isfinite()]
    if len(finite) < values.numel():
        return f"of which {values.numel() - len(finite)} of {values.numel()} values are not finite"
    return f"from {finite.min():.3g} to {finite.max():.3g}"


def _on_grid(maps: Float[Tensor, "k a b"], grid: tuple[int, int], shrink: Shrink) -> Float[Tensor, "k h w"]:
    """Bring maps to a grid: `shrink` makes cells of the sides that are larger, and the others are interpolated."""
    if not len(maps):
        return maps.new_zeros(0, *grid)
    smaller = min(maps.shape[1], grid[0]), min(maps.shape[2], grid[1])
    if smaller != tuple(maps.shape[1:]):
        maps = shrink(maps[None], smaller)[0]
    if smaller != grid:
        maps = F.interpolate(maps[None], grid, mode="bilinear", align_corners=False)[0]
    return maps
