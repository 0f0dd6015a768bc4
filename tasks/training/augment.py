"""Training augmentation of one image, with its label map where it has one. Everything random is drawn from `rng`."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from data.dataset import VOID, LabelMap
from models.backbones.base import Backbone

Image = NDArray[np.uint8]


def resize(image: NDArray, scale: float, interpolation: int) -> NDArray:
    """Resize [H, W, ...] by a factor; no side becomes shorter than one pixel. See `to_shape`."""
    height, width = image.shape[:2]
    return to_shape(image, (max(1, round(height * scale)), max(1, round(width * scale))), interpolation)


def to_shape(image: NDArray, shape: tuple[int, int], interpolation: int) -> NDArray:
    """Resize [H, W, ...] to another (H, W).

    What is smaller than the image is the mean of what it covers, since cubic and linear interpolation of single pixels
    alias; nearest takes the pixel under the middle of each new one, so that label maps stay over their images.
    """
    if interpolation == cv2.INTER_NEAREST:
        interpolation = cv2.INTER_NEAREST_EXACT
    elif shape[0] <= image.shape[0] and shape[1] <= image.shape[1]:
        interpolation = cv2.INTER_AREA
    return cv2.resize(image, shape[::-1], interpolation=interpolation)  # pyright: ignore[reportReturnType]


def scale_for_long_side(image: Image, resize_range: tuple[int, int], rng: np.random.Generator) -> float:
    """Draw the factor that brings the long side into a range of pixels."""
    return int(rng.integers(resize_range[0], resize_range[1] + 1)) / max(image.shape[:2])


def photometric(image: Image, strength: float, rng: np.random.Generator) -> Image:
    """Change brightness, contrast and saturation by factors in [1 - strength, 1 + strength]."""
    if strength == 0:
        return image
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3).astype(np.float32)
    pixels = image.astype(np.float32) * brightness
    pixels = (pixels - pixels.mean()) * contrast + pixels.mean()
    grey = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    pixels = (pixels - grey[..., None]) * saturation + grey[..., None]
    return pixels.clip(0, 255).astype(np.uint8)


def normalize(image: Image, backbone: Backbone) -> NDArray[np.float32]:
    """Return [H, W, 3] network input, so that zero padding is the mean colour."""
    mean, std = (t.view(3).cpu().numpy() for t in (backbone.mean, backbone.std))
    return ((image - mean) / std).astype(np.float32, copy=False)


def flip_and_crop(
    image: NDArray, labels: LabelMap | None, crop_size: int | tuple[int, int], rng: np.random.Generator
) -> tuple[NDArray, LabelMap | None]:
    """Mirror at random and cut a square, or a rectangle (H, W).

    An image that is smaller than the crop lies at a random place in it; the rest is 0 in the image and `VOID`
    (do not care) in the label map.
    """
    crop_shape = (crop_size, crop_size) if isinstance(crop_size, int) else crop_size
    if rng.random() < 0.5:
        image = image[:, ::-1]
        labels = labels[:, ::-1] if labels is not None else None
    source, target = [], []
    for size, wanted in zip(image.shape[:2], crop_shape, strict=True):
        slack = wanted - size
        start = int(rng.integers(0, abs(slack) + 1))
        source.append(slice(0, size) if slack >= 0 else slice(start, start + wanted))
        target.append(slice(start, start + size) if slack >= 0 else slice(0, wanted))
    crop = np.zeros((*crop_shape, image.shape[2]), image.dtype)
    crop[tuple(target)] = image[tuple(source)]
    if labels is None:
        return crop, None
    label_crop = np.full(crop_shape, VOID, labels.dtype)
    label_crop[tuple(target)] = labels[tuple(source)]
    return crop, label_crop
