"""Pictures that the page of a review shows, as files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from data.formats.images import read_image
from data.formats.label_maps import VOC_PALETTE
from tasks.reporting.pictures import palette_row

JPEG_QUALITY = 92
BOUNDARY_COLOR = (255, 220, 40)


def photo_file(file: Path, most_px: int | None = None) -> bytes:
    """Return a photograph as JPEG, its longer side `most_px` at most.

    Raises:
        DatasetError: It cannot be read.
    """
    photo = read_image(file)
    factor = 1 if most_px is None else min(1, most_px / max(photo.shape[:2]))
    if factor < 1:
        size = tuple(max(1, round(side * factor)) for side in photo.shape[1::-1])
        photo = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
    return _encode(".jpg", photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def heat_file(scores: NDArray[np.floating]) -> bytes:
    """Return scores [h, w] in [0, 1] as PNG: the higher, the hotter and the less transparent."""
    level = (np.asarray(scores, np.float32).clip(0, 1) * 255).astype(np.uint8)
    return _encode(".png", np.dstack([cv2.applyColorMap(level, cv2.COLORMAP_TURBO), level]), [])


def boundary_file(boundary: NDArray[np.floating]) -> bytes:
    """Return probabilities [h, w] in [0, 1] as PNG: the higher, the less transparent."""
    level = (np.asarray(boundary, np.float32).clip(0, 1) * 255).astype(np.uint8)
    color = np.broadcast_to(np.array(BOUNDARY_COLOR[::-1], np.uint8), (*level.shape, 3))
    return _encode(".png", np.dstack([color, level]), [])


def color_of(value: int) -> str:
    """Return the colour of a class value as people know it from label maps: #rrggbb."""
    return "#" + bytes(VOC_PALETTE[palette_row(value)].tolist()).hex()


def _encode(suffix: str, picture: NDArray, options: list[int]) -> bytes:
    done, encoded = cv2.imencode(suffix, picture, options)
    assert done
    return encoded.tobytes()
