"""X-AnyLabeling: labelme's JSON with polygons, one per part of an object; `group_id` is the object, 0 for none.

Holes are filled. Shapes that lie in others come later, so that they are painted over what encloses them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.dataset import Sample
from data.exchange.outlines import fill, outlines
from data.exchange.pixels import Canvas, Pixels, Region, regions
from data.exchange.shapes.labelme import SUFFIX, read_labelme, shape_of, write_files
from data.exchange.spec import ExchangeFormat, Labels

VERSION = "2.4.0"


def write_anylabeling(labels: Labels, folder: Path) -> dict[str, Any]:
    """Write `<id>.json` for each image; return the number of "shapes"."""
    return write_files(labels, folder, VERSION, _shapes)


def polygons(pixels: Pixels) -> list[tuple[Region, NDArray[np.floating], NDArray[np.bool_]]]:
    """Return region, polygon of (x, y) in pixels, and what it encloses, of each part; those that enclose most first."""
    height, width = shape = pixels.semantic.shape
    found = []
    for region in regions(pixels):
        for outline in outlines(region.whole(shape)):
            corners = outline * (width, height)
            found.append((region, corners, fill(corners, (height, width))))
    return sorted(found, key=lambda item: -int(item[2].sum()))


def _shapes(labels: Labels, pixels: Pixels) -> list[dict[str, Any]]:
    return [
        shape_of(labels, region, points=corners.tolist(), shape_type="polygon")
        for region, corners, _ in polygons(pixels)
    ]


def _kept(labels: Labels, sample: Sample) -> Pixels:
    pixels = labels.pixels(sample)
    canvas = Canvas(pixels.semantic.shape)
    for region, _, mask in polygons(pixels):
        canvas.paint(mask, region.value, region.object)
    return canvas.pixels


ANYLABELING = ExchangeFormat(
    "x-anylabeling",
    "X-AnyLabeling polygons",
    write_anylabeling,
    read_labelme,
    _kept,
    "holes that show background",
    SUFFIX,
)
