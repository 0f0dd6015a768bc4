"""labelme: a JSON per image, whose shapes are masks; `group_id` is the object, 0 for none."""

from __future__ import annotations

import base64
import binascii
import io
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.dataset import DatasetError, Problem, Sample
from data.exchange.json_fields import checked, field, points
from data.exchange.outlines import fill
from data.exchange.pixels import Canvas, Pixels, Region, regions, size_text
from data.exchange.spec import Edited, ExchangeFormat, Labels
from data.files import files_below
from data.formats.coco_records import read_json
from data.formats.images import max_pixels

SUFFIX, VERSION = ".json", "5.5.0"
"""Of files, and of labelme, whose form this is: the first with shapes that are masks came before it."""
Shapes = Callable[[Labels, Pixels], list[dict[str, Any]]]


def write_labelme(labels: Labels, folder: Path) -> dict[str, Any]:
    """Write `<id>.json` for each image; return the number of "shapes"."""
    return write_files(labels, folder, VERSION, _shapes)


def write_files(labels: Labels, folder: Path, version: str, shapes: Shapes) -> dict[str, Any]:
    """Write a JSON per image with shapes; paths to photographs are from the place where it will lie at last."""
    count = 0
    for sample, pixels in labels.images():
        found = shapes(labels, pixels)
        height, width = pixels.semantic.shape
        file = Path(f"{sample.id}{SUFFIX}")
        photograph = os.path.relpath(sample.image.absolute(), (labels.place / file).absolute().parent)
        document = {
            "version": version,
            "flags": {},
            "shapes": found,
            "imagePath": photograph,
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
        count += len(found)
    return {"shapes": count}


def _shapes(labels: Labels, pixels: Pixels) -> list[dict[str, Any]]:
    return [shape_of(labels, region, **_mask_fields(region)) for region in regions(pixels)]


def shape_of(labels: Labels, region: Region, **more: Any) -> dict[str, Any]:
    """Return a shape with a region's class and object, and the fields of its form."""
    return {"label": labels.name(region.value), "group_id": region.object, "description": "", "flags": {}, **more}


def _mask_fields(region: Region) -> dict[str, Any]:
    left, top, right, bottom = region.columns.start, region.rows.start, region.columns.stop, region.rows.stop
    stream = io.BytesIO()
    Image.fromarray(region.mask.astype(np.uint8) * 255).save(stream, format="PNG")
    # The second corner is the last pixel.
    corners = [[left, top], [right - 1, bottom - 1]]
    return {"points": corners, "shape_type": "mask", "mask": base64.b64encode(stream.getvalue()).decode("ascii")}


def read_labelme(folder: Path, labels: Labels) -> Iterator[Edited]:
    """Yield the images of the JSON files in a folder, by their names.

    Raises:
        DatasetError: There are none.
    """
    files = [file for file in files_below(folder, {".json"}) if file != folder / "export.json"]
    if not files:
        raise DatasetError([Problem(folder, "expected a JSON of shapes per image, found none")])
    for file in files:
        name = file.relative_to(folder).with_suffix("").as_posix()
        yield Edited(name, file, partial(_read, file, labels))


def _read(file: Path, labels: Labels, sample: Sample) -> Pixels:
    document = read_json(file, "JSON of shapes", once=True)
    canvas = Canvas(labels.size(sample))
    said = field(document, "imageHeight", int), field(document, "imageWidth", int)
    if said != canvas.shape:
        raise ValueError(f"expected an image of {size_text(canvas.shape)}, found {size_text(said)}")
    for shape in field(document, "shapes", list):
        value, group = labels.value(field(shape, "label", str)), shape.get("group_id")
        mask = _mask(shape, canvas.shape)
        canvas.paint(mask, value, None if group is None else checked(group, "group_id", int))
    return canvas.pixels


def _mask(shape: dict[str, Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    kind, corners = field(shape, "shape_type", str), points(shape.get("points"), "points")
    if kind == "mask":
        return _painted(field(shape, "mask", str), corners, size)
    if kind == "polygon":
        return fill(corners, size)
    if kind == "rectangle":
        (left, top), (right, bottom) = np.min(corners, axis=0), np.max(corners, axis=0)
        return fill([[left, top], [right, top], [right, bottom], [left, bottom]], size)
    raise ValueError(f"expected shapes that are masks, polygons or rectangles, found {kind!r}")


def _painted(text: str, corners: list[list[float]], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask [H, W] of a PNG in base64 that lies between two corners."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=("PNG",)) as image:
            if image.width * image.height > max_pixels():
                raise ValueError(f"a mask of {image.width} x {image.height} pixels is too large for this machine")
            part = np.asarray(image.convert("L")) > 0
    except (binascii.Error, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"expected a mask as PNG in base64, but {error}") from None
    if len(corners) != 2:
        raise ValueError(f"expected a mask between two corners, found {len(corners)}")
    left, top = (int(side) for side in corners[0])
    whole = np.zeros(size, bool)
    target = whole[top : top + part.shape[0], left : left + part.shape[1]]
    if min(left, top) < 0 or target.shape != part.shape:
        raise ValueError(f"expected a mask inside the image, found {size_text(part.shape)} pixels at {left}, {top}")
    target |= part
    return whole


LABELME = ExchangeFormat("labelme", "labelme JSON", write_labelme, read_labelme, suffix=SUFFIX)
