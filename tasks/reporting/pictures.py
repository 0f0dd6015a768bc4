"""Pictures of what the stages make: pure functions from maps to RGB, for the report.

A picture is uint8 [H, W, 3], RGB. A map may be of another size than its photograph and is resized to it.
"""

from __future__ import annotations

import base64

import cv2
import numpy as np
from numpy.typing import NDArray

from data.dataset import VOID, LabelMap
from data.formats.label_maps import VOC_PALETTE

Picture = NDArray[np.uint8]

# No class of VOC's palette has this colour; its own for 255 is close to white.
VOID_COLOR = np.array([205, 205, 205], np.uint8)
_GOLDEN_RATIO = 0.618034


def fit_height(picture: Picture, max_height: int) -> Picture:
    """Shrink a picture to at most this height, with its proportions kept; a smaller one is returned as it is."""
    height, width = picture.shape[:2]
    if height <= max_height:
        return picture
    size = (max(1, round(width * max_height / height)), max_height)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def overlay_heat(photo: Picture, scores: NDArray[np.floating]) -> Picture:
    """Lay scores [h, w] in [0, 1] over a grey photograph: the higher, the hotter and the less transparent."""
    heat = _resize(np.asarray(scores, np.float32), photo.shape, cv2.INTER_LINEAR).clip(0, 1)
    colors = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    return _blend(_greyed(photo), colors, 0.25 + 0.55 * heat[..., None])


def paint_labels(labels: LabelMap) -> Picture:
    """Give class values [H, W] VOC's colours; 255, which nobody need care for, is grey."""
    colors = VOC_PALETTE.copy()
    colors[VOID] = VOID_COLOR
    return colors[np.vectorize(palette_row, otypes=[int])(np.arange(int(labels.max(initial=0)) + 1))[labels]]


def overlay_labels(photo: Picture, labels: LabelMap, *, background: bool = True) -> Picture:
    """Lay class values [h, w] over a photograph, in VOC's colours with an outline.

    Args:
        background: 0 is background, which stays clear, and not a class.
    """
    values = _resize(labels, photo.shape, cv2.INTER_NEAREST_EXACT)
    painted = values > 0 if background else np.full_like(values, True)
    return _overlay(photo, values, paint_labels(values), painted)


def palette_row(value: int) -> int:
    """Return which of the palette's 256 colours a class value has: those above 255 begin again with the first."""
    return 1 + (value - VOID - 1) % (VOID - 1) if value > VOID else value


def overlay_instances(photo: Picture, instances: NDArray[np.integer]) -> Picture:
    """Lay instance ids [h, w] over a photograph, each in a colour of its own; 0 stays clear, 255 is grey."""
    # OpenCV resizes int32 by nearest neighbour only, which is what ids want.
    ids = _resize(np.asarray(instances, np.int32), photo.shape, cv2.INTER_NEAREST_EXACT)
    present, rows = np.unique(ids, return_inverse=True)
    # Steps of the golden ratio keep the hues of consecutive ids far apart, however many there are.
    hues = np.modf(np.arange(len(present)) * _GOLDEN_RATIO)[0]
    palette = _rgb(hues, np.full(len(present), 0.85), np.ones(len(present)))
    palette[present == VOID] = VOID_COLOR
    return _overlay(photo, ids, palette[rows.reshape(ids.shape)], ids > 0)


def paint_boundary(boundary: NDArray[np.floating]) -> Picture:
    """Show probabilities [h, w] in [0, 1] as grey: black is no boundary, white a sure one."""
    grey = np.rint(np.asarray(boundary, np.float32).clip(0, 1) * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def paint_displacement(displacement: NDArray[np.floating], full_px: float) -> Picture:
    """Show a field [2, h, w] of (dy, dx) as a colour wheel: hue is its direction, saturation its length.

    Args:
        displacement: In feature pixels.
        full_px: Length that is fully saturated; zero is white.
    """
    dy, dx = np.asarray(displacement, np.float32)
    hues = np.mod(np.arctan2(dy, dx) / (2 * np.pi), 1)
    lengths = np.hypot(dy, dx) / max(full_px, 1e-6)
    return _rgb(hues, lengths.clip(0, 1), np.ones_like(hues))


def paint_wheel(side: int) -> Picture:
    """Return the legend of `paint_displacement`: each place has the colour of the vector from the centre to it.

    Args:
        side: Of the square in pixels; what lies outside the disc is white.
    """
    axis = (np.arange(side) + 0.5) * 2 / side - 1
    field = np.stack(np.meshgrid(axis, axis, indexing="ij"))
    wheel = paint_displacement(field, full_px=1)
    wheel[np.hypot(*field) > 1] = 255
    return wheel


def data_uri(picture: Picture, *, lossless: bool = False) -> str:
    """Encode a picture for an HTML page: JPEG, or PNG for flat colours."""
    suffix, kind, options = (".png", "png", []) if lossless else (".jpg", "jpeg", [cv2.IMWRITE_JPEG_QUALITY, 82])
    done, encoded = cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    assert done
    return f"data:image/{kind};base64,{base64.b64encode(encoded.tobytes()).decode('ascii')}"


def _resize(values: NDArray, shape: tuple[int, ...], interpolation: int) -> NDArray:
    return cv2.resize(values, (shape[1], shape[0]), interpolation=interpolation)


def _overlay(photo: Picture, values: NDArray, colors: Picture, painted: NDArray) -> Picture:
    picture = _blend(photo, colors, np.where(painted, 0.55, 0)[..., None])
    outline = _edges(values) & (painted > 0)
    picture[outline] = colors[outline]
    return picture


def _edges(values: NDArray) -> NDArray[np.bool_]:
    """Mark the pixels [H, W] whose neighbour to the left or above, or to the right or below, has another value."""
    edges = np.zeros(values.shape, bool)
    for axis in (0, 1):
        lines = np.moveaxis(values, axis, 0)
        marked = np.moveaxis(edges, axis, 0)
        differ = lines[1:] != lines[:-1]
        marked[1:] |= differ
        marked[:-1] |= differ
    return edges


def _blend(below: NDArray, above: NDArray, opacity: NDArray[np.floating]) -> Picture:
    return np.rint(below * (1 - opacity) + above * opacity).astype(np.uint8)


def _greyed(photo: Picture) -> Picture:
    return np.asarray(cv2.cvtColor(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)


def _rgb(hues: NDArray[np.floating], saturations: NDArray[np.floating], values: NDArray[np.floating]) -> Picture:
    """Convert hue, saturation and value, each in [0, 1] and of one shape, to uint8 [..., 3]."""
    hsv = np.stack([hues * 360, saturations, values], axis=-1).astype(np.float32)
    # OpenCV wants a matrix of pixels.
    rgb = cv2.cvtColor(hsv.reshape(1, -1, 3), cv2.COLOR_HSV2RGB).reshape(hsv.shape)
    return np.rint(rgb * 255).astype(np.uint8)
