"""COCO panoptic: a JSON in `annotations/`, and a PNG per image whose colours are the numbers of segments.

Pixels of a class without an instance are a segment with `iscrowd`; background is a category of stuff; void is 0. Each
segment says besides which object it is of, so that an object with pixels of two classes stays one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data.dataset import VOID, DatasetError, Problem, Sample
from data.exchange.json_fields import checked, field
from data.exchange.pixels import Canvas, Pixels, Region, numbered, regions
from data.exchange.spec import Edited, ExchangeFormat, Labels
from data.files import replacing, visible
from data.formats.coco_records import read_json
from data.formats.images import LABEL_FORMATS, decodable, opened
from data.names import is_unsafe

MASKS = Path("annotations") / "panoptic_default"
FILE = MASKS.with_suffix(".json")


def write_coco_panoptic(labels: Labels, folder: Path) -> dict[str, Any]:
    """Write `annotations/panoptic_default.json`, and PNGs in a folder of its name; return the number of "segments"."""
    ids = _category_ids(labels)
    (folder / MASKS).mkdir(parents=True)
    images, count = [], 0
    with (folder / FILE).open("w", encoding="utf-8") as stream:
        stream.write('{"annotations": [')
        for number, (sample, pixels) in enumerate(labels.images(), start=1):
            segments = _write_segments(folder / MASKS / f"{sample.id}.png", pixels, ids)
            record = {"image_id": number, "file_name": f"{sample.id}.png", "segments_info": segments}
            stream.write(f"{',' if number > 1 else ''}\n{json.dumps(record)}")
            height, width = pixels.semantic.shape
            images.append({"id": number, "file_name": f"{sample.id}{sample.image.suffix}"})
            images[-1] |= {"height": height, "width": width}
            count += len(segments)
        categories = [
            {"id": ids[value], "name": labels.name(value), "supercategory": "", "isthing": int(value > 0)}
            for value in labels.named_values[:-1]
        ]
        stream.write(f'\n],\n"images": {json.dumps(images)},\n"categories": {json.dumps(categories)}}}\n')
    return {"segments": count}


def _category_ids(labels: Labels) -> dict[int, int]:
    """Return value -> id: the class table's, and the first free one for background."""
    ids = dict(enumerate(labels.classes.category_ids, start=1 if labels.classes.has_background else 0))
    return {0: max(ids.values(), default=0) + 1} | ids


def _write_segments(file: Path, pixels: Pixels, ids: Mapping[int, int]) -> list[dict[str, Any]]:
    shape = pixels.semantic.shape
    numbers = np.zeros(shape, np.int64)
    background = (pixels.semantic == 0) & (0 if pixels.objects is None else pixels.objects == 0)
    rows, columns = slice(0, shape[0]), slice(0, shape[1])
    found = [Region(0, 0, rows, columns, background)] if background.any() else []
    segments = []
    for region in [*found, *regions(pixels)]:
        if region.value == VOID:
            continue
        number = len(segments) + 1
        numbers[region.rows, region.columns][region.mask] = number
        segments.append(_segment(number, region, ids))
    colours = (numbers[..., None] >> np.array([0, 8, 16]) & 255).astype(np.uint8)
    with replacing(file) as temporary:
        Image.fromarray(colours).save(temporary, format="PNG")
    return segments


def _segment(number: int, region: Region, ids: Mapping[int, int]) -> dict[str, Any]:
    ys, xs = np.nonzero(region.mask)
    left, top = region.columns.start + int(xs.min()), region.rows.start + int(ys.min())
    return {
        "id": number,
        "category_id": ids[region.value],
        "iscrowd": int(region.value > 0 and region.object == 0),
        "area": int(region.mask.sum()),
        "bbox": [left, top, int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1],
        "object": region.object,
    }


def read_coco_panoptic(folder: Path, labels: Labels) -> Iterator[Edited]:
    """Yield the images of each JSON in `annotations/` that has a folder of masks of its name."""
    files = [file for file in visible(folder, "annotations/*.json") if file.with_suffix("").is_dir()]
    if not files:
        message = "expected COCO panoptic JSON with a folder of masks of its name beside it, found none"
        raise DatasetError([Problem(folder / FILE.parent, message)])
    for file in files:
        document = read_json(file, "COCO panoptic JSON")
        try:
            categories = _by_id(_records(document, "categories"), "category")
            names = {number: field(each, "name", str) for number, each in categories.items()}
            records = [(field(each, "file_name", str), each) for each in _records(document, "annotations")]
        except ValueError as error:
            raise DatasetError([Problem(file, f"expected COCO panoptic JSON, but {error}")]) from None
        for name, record in records:
            if is_unsafe(name):
                raise DatasetError([Problem(file, f"expected a mask beside the file, found {name!r}")])
            mask = file.with_suffix("") / name
            yield Edited(name, mask, partial(_read, mask, record, names, labels))


def _by_id(records: list[Any], kind: str) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for record in records:
        if found.setdefault(number := field(record, "id", int), record) is not record:
            raise ValueError(f"expected a different id for each {kind}, found {number} twice")
    return found


def _records(document: Any, name: str) -> list[Any]:
    return [checked(record, name, dict) for record in field(document, name, list)]


def _read(file: Path, record: dict[str, Any], names: dict[Any, str], labels: Labels, _: Sample) -> Pixels:
    with opened(file, "a mask of segments", LABEL_FORMATS) as image, decodable(image, file):
        numbers = np.asarray(image.convert("RGB")).astype(np.int64) @ (1, 256, 65536)
    segments = _by_id(field(record, "segments_info", list), "segment")
    canvas = Canvas(numbers.shape)
    values, places = numbered(numbers)
    for place, number in enumerate(values.tolist()):
        canvas.paint(places == place, *_what(number, segments, names, labels))
    return canvas.pixels


def _what(number: int, segments: dict[int, Any], names: dict[Any, str], labels: Labels) -> tuple[int, int | None]:
    """Return the class value of a segment, and its object: None for one of its own."""
    if number == 0:
        return VOID, 0
    if number not in segments:
        raise ValueError(f"expected segments of the file, found {number}")
    segment = segments[number]
    category = field(segment, "category_id", int)
    if category not in names:
        raise ValueError(f"expected categories of the file, found {category}")
    object = segment.get("object")
    if object is None and segment.get("iscrowd"):
        object = 0
    return labels.value(names[category]), None if object is None else checked(object, "object", int)


COCO_PANOPTIC = ExchangeFormat("coco-panoptic", "COCO panoptic", write_coco_panoptic, read_coco_panoptic)
