"""Masks as polygons whose corners are those of the pixels, and polygons as masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray

from data.exchange.pixels import Region
from data.formats.coco_records import read_mask

LEAST_CORNERS = 3


def outlines(mask: Bool[np.ndarray, "h w"]) -> list[np.ndarray]:
    """Return the outer outline of each part of a mask: float [corners, 2] of (x, y) in pixels.

    The corners are those of the pixels, so that filling the outline gives the pixels again.
    """
    height, width = mask.shape
    # At twice the size and one row and column more, the middle of a border pixel's outer edge is a pixel of its own.
    doubled = np.zeros((2 * height + 1, 2 * width + 1), np.uint8)
    rows, columns = np.nonzero(mask)
    for down in range(3):
        for right in range(3):
            doubled[2 * rows + down, 2 * columns + right] = 1
    found, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [corners[:, 0] / 2 for corners in found if len(corners) >= LEAST_CORNERS]


def fill(polygon: Sequence[Sequence[float]] | NDArray[np.floating], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels [H, W] inside a polygon of (x, y) in pixels.

    Raises:
        ValueError: It has less than three corners, or lies far outside.
    """
    corners = [[float(x), float(y)] for x, y in polygon]
    if len(corners) < LEAST_CORNERS:
        raise ValueError(f"expected a polygon of three corners or more, found {len(corners)}")
    return read_mask({"segmentation": [[side for corner in corners for side in corner]]}, *shape)


def filled_parts(region: Region) -> Iterator[tuple[NDArray[np.floating], Region]]:
    """Yield the corners (x, y) in the image of each part's outline, and the pixels that it encloses, holes too."""
    corner = np.array([region.columns.start, region.rows.start])
    for outline in outlines(region.mask):
        corners = outline + corner
        # Filled in its own box: many small parts of a large image need little memory and time.
        (left, top), (right, bottom) = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0))
        rows, columns = slice(int(top), int(bottom)), slice(int(left), int(right))
        mask = fill(corners - (left, top), (rows.stop - rows.start, columns.stop - columns.start))
        yield corners, Region(region.value, region.object, rows, columns, mask)
