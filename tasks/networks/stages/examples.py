"""What networks that give pixels classes are trained on and shown: images at the wanted size, with their labels."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.dataset import DatasetError, LabelMap, Problem, Sample
from data.formats.images import read_image
from data.formats.label_maps import read_label_map
from models.segmenter import Segmenter
from tasks.networks.segnet import SceneConfig
from tasks.networks.trainer import SegmenterConfig
from tasks.training.augment import flip_and_crop, normalize, photometric, resize, to_shape
from tasks.training.inference import Pyramid

Image = NDArray[np.uint8]
Example = tuple[Tensor, Tensor]
"""Network input [3, H, W], and uint8 or int32 [H, W] of the classes' values, `VOID` where none is known."""
# Of labels with their confidence: the lower bits have the class, those above the confidence.
NUM_CLASS_BITS = 16
CLASS_BITS = (1 << NUM_CLASS_BITS) - 1
ExampleOf = Callable[[Image, LabelMap, np.random.Generator], Example]


def example_of(net: Segmenter, config: SegmenterConfig | SceneConfig, *, augment: bool = True) -> ExampleOf:
    """Return what makes an example of an image [H, W, 3] and its label map [H, W]."""
    if isinstance(config, SceneConfig):
        return _whole_images(net, config, mirror=augment and config.mirror)
    return _crops(net, config)


def load_example(
    sample: Sample, read: Callable[[Sample], NDArray[Any]], example: ExampleOf, rng: np.random.Generator
) -> Example:
    """Return the example of a sample's image and of the label map that `read` reads.

    Raises:
        DatasetError: One of them cannot be read, or they differ in size.
    """
    image, labels = read_image(sample.image), read(sample)
    if labels.shape != image.shape[:2]:
        message = f"expected the image's size {image.shape[:2]}, found {labels.shape}"
        raise DatasetError([Problem(sample.semantic or sample.image, message, sample.id)])
    return example(image, labels, rng)


def with_confidence(read: Callable[[Sample], LabelMap]) -> Callable[[Sample], NDArray[np.int32]]:
    """Return a reader of label maps that have the confidence of each pixel in their upper bits, for `split_labels`.

    What resizes, flips and cuts a label map so does the same to its confidence.
    """

    def read_both(sample: Sample) -> NDArray[np.int32]:
        if sample.confidence is None:
            message = "expected labels with their confidence, which those of a run have, found none"
            raise DatasetError([Problem(sample.semantic or sample.image, message, sample.id)])
        labels, confidence = read(sample), read_label_map(sample.confidence)
        if labels.shape != confidence.shape:
            message = f"expected the size of the labels {labels.shape}, found {confidence.shape}"
            raise DatasetError([Problem(sample.confidence, message, sample.id)])
        return labels.astype(np.int32) | confidence.astype(np.int32) << NUM_CLASS_BITS

    return read_both


def split_labels(labels: Tensor, power: float) -> tuple[Tensor, Tensor | None]:
    """Return the class values of label maps [B, H, W], and the weights of their pixels in the loss.

    Args:
        labels: As `with_confidence` reads them, or plain ones where `power` is 0.
        power: Of the confidence; with 0 there are no weights.
    """
    if not power:
        return labels.long(), None
    weights = (labels >> NUM_CLASS_BITS).float() / 255
    return (labels & CLASS_BITS).long(), weights**power


def view_of(image_size: tuple[int, int] | None, scales: tuple[float, ...], image: Image) -> Pyramid:
    """Return what a network is shown of an image: at its own size or at the network's, times every scale."""
    if image_size is None:
        return Pyramid.of(image, scales)
    return Pyramid(image.shape[:2], Pyramid.of(_resized(image, image_size), scales).scales)


def _crops(net: Segmenter, config: SegmenterConfig) -> ExampleOf:
    """Return what makes a random crop of an image and its label map, rescaled and recoloured."""
    (backbone, *_) = net.backbones

    def example(image: Image, labels: LabelMap, rng: np.random.Generator) -> Example:
        if config.image_size is not None:
            image, labels = _resized(image, config.image_size), _resized_labels(labels, config.image_size)
        scale = rng.uniform(*config.rescale)
        if scale != 1:
            image, labels = resize(image, scale, cv2.INTER_LINEAR), resize(labels, scale, cv2.INTER_NEAREST)
        normalized = normalize(photometric(image, config.photometric, rng), backbone)  # pyright: ignore
        crop, label_crop = flip_and_crop(normalized, labels, config.crop_size, rng)
        assert label_crop is not None
        return torch.from_numpy(crop).permute(2, 0, 1), _as_tensor(label_crop)

    return example


def _whole_images(net: Segmenter, config: SceneConfig, *, mirror: bool) -> ExampleOf:
    """Return what makes a whole image of one size with its label map, mirrored at random where that is wanted."""
    # The network's own may be on a GPU.
    normalized: Callable[[Tensor], Tensor] = copy.deepcopy(net.backbone.normalize).cpu()  # pyright: ignore

    def example(image: Image, labels: LabelMap, rng: np.random.Generator) -> Example:
        image, labels = _resized(image, config.image_size), _resized_labels(labels, config.image_size)
        if mirror and rng.random() < 0.5:
            image, labels = image[:, ::-1], labels[:, ::-1]
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
        return normalized(pixels[None])[0], _as_tensor(np.ascontiguousarray(labels))

    return example


def _as_tensor(labels: LabelMap) -> Tensor:
    """Return labels as a tensor; PyTorch knows little of unsigned integers of 16 bits."""
    return torch.from_numpy(labels if labels.dtype == np.uint8 else labels.astype(np.int32))


def _resized(image: Image, size: tuple[int, int]) -> Image:
    """Resize to (H, W), first the sides that get shorter: interpolation alone, of both at once, would alias there."""
    height, width = (min(own, wanted) for own, wanted in zip(image.shape[:2], size, strict=True))
    return to_shape(to_shape(image, (height, width), cv2.INTER_LINEAR), size, cv2.INTER_LINEAR)


def _resized_labels(labels: LabelMap, size: tuple[int, int]) -> LabelMap:
    return to_shape(labels, size, cv2.INTER_NEAREST)
