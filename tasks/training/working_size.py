"""The size at which networks, CRF and walk see an image, whatever its own is.

A network knows objects at the sizes that it was trained on, and the CRF's and the walk's radii are in pixels. So a
photograph of 4,000 x 3,000 pixels is shrunk and a tile of 64 x 64 enlarged before any of them; the labels are brought
back to the image's own size.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from data.formats.images import image_size, read_image

LongSide = tuple[int, int] | None
"""Least and largest long side in pixels; None leaves images as they are."""


def working_size(size: tuple[int, int], long_side: LongSide) -> tuple[int, int]:
    """Return the size (H, W) at which an image of a size is worked on."""
    if long_side is None:
        return size
    longest = max(size)
    scale = min(max(longest, long_side[0]), long_side[1]) / longest
    return size if scale == 1 else (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))


def file_working_size(path: Path, long_side: LongSide) -> tuple[int, int]:
    """Return the size (H, W) of `read_working_image`, from the file's header alone."""
    return working_size(image_size(path), long_side)


def read_working_image(path: Path, long_side: LongSide) -> NDArray[np.uint8]:
    """Read an image as RGB, uint8 [H, W, 3], at its working size.

    Raises:
        DatasetError: The image cannot be read.
    """
    image = read_image(path)
    height, width = working_size((image.shape[0], image.shape[1]), long_side)
    if (height, width) == image.shape[:2]:
        return image
    interpolation = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (width, height), interpolation=interpolation), np.uint8)


def to_size(labels: NDArray[np.integer], size: tuple[int, int]) -> NDArray:
    """Bring a map of values [h, w] to a size (H, W): at each pixel the value that bilinear interpolation finds most of.

    Borders stay smooth where the map is enlarged, and no value is made up.
    """
    if labels.shape == size:
        return labels
    values = np.unique(labels)
    best, strength = np.full(size, values[0], labels.dtype), np.full(size, -1, np.float32)
    interpolation = cv2.INTER_AREA if size[0] < labels.shape[0] else cv2.INTER_LINEAR
    for value in values:
        share = cv2.resize((labels == value).astype(np.float32), size[::-1], interpolation=interpolation)
        stronger = share > strength
        best[stronger], strength[stronger] = value, share[stronger]
    return best
