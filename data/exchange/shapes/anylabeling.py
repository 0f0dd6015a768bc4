"""X-AnyLabeling: labelme's JSON with polygons, one per part of an object; `group_id` is the object, 0 for none.

Holes are filled. Shapes that lie in others come later, so that they are painted over what encloses them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.dataset import Sample
from data.exchange.outlines import filled_parts
from data.exchange.pixels import Canvas, Pixels, Region, regions
from data.exchange.shapes.labelme import SUFFIX, read_labelme, shape_of, write_files
from data.exchange.spec import ExchangeFormat, Labels

VERSION = "2.4.0"


def write_anylabeling(labels: Labels, folder: Path) -> dict[str, Any]:
    """Write `<id>.json` for each image; return the number of "shapes"."""
    return write_files(labels, folder, VERSION, _shapes)


def polygons(pixels: Pixels) -> list[tuple[NDArray[np.floating], Region]]:
    """Return the polygon of (x, y) in pixels of each part, and what it encloses; those that enclose most first."""
    found = (each for region in regions(pixels) for each in filled_parts(region))
    return sorted(found, key=lambda item: -int(item[1].mask.sum()))


def _shapes(labels: Labels, pixels: Pixels) -> list[dict[str, Any]]:
    return [
        shape_of(labels, region, points=corners.tolist(), shape_type="polygon") for corners, region in polygons(pixels)
    ]


def _kept(labels: Labels, sample: Sample) -> Pixels:
    pixels = labels.pixels(sample)
    canvas = Canvas(pixels.semantic.shape)
    for _, region in polygons(pixels):
        canvas.paint_region(region)
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
