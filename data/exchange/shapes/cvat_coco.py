"""CVAT's "COCO 1.0": instances, pixels of a class without an instance, and void, each a mask of run lengths."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.dataset import Sample
from data.exchange.pixels import Pixels, as_shapes, regions
from data.exchange.shapes.coco import read_coco_files
from data.exchange.spec import Edited, ExchangeFormat, Labels
from data.formats.coco import encode_mask

FILE = Path("annotations") / "instances_default.json"


def write_cvat_coco(labels: Labels, folder: Path) -> dict[str, Any]:
    """Write `annotations/instances_default.json`; return the number of "annotations"."""
    values = labels.named_values[1:]
    ids = {value: number for number, value in enumerate(values, start=1)}
    images, count = [], 0
    (folder / FILE).parent.mkdir(parents=True)
    with (folder / FILE).open("w", encoding="utf-8") as stream:
        stream.write('{"licenses": [], "info": {}, "annotations": [')
        for number, (sample, pixels) in enumerate(labels.images(), start=1):
            height, width = pixels.semantic.shape
            images.append({"id": number, "file_name": f"{sample.id}{sample.image.suffix}"})
            images[-1] |= {"height": height, "width": width}
            for region in regions(pixels):
                if region.value:
                    mask = encode_mask(region.whole((height, width)))
                    box = [region.columns.start, region.rows.start, region.mask.shape[1], region.mask.shape[0]]
                    count += 1
                    record = {"id": count, "image_id": number, "category_id": ids[region.value], "segmentation": mask}
                    # CVAT and datumaro take run lengths for a mask where `iscrowd` says so.
                    record |= {"area": int(region.mask.sum()), "bbox": box, "iscrowd": 1}
                    stream.write(f"{',' if count > 1 else ''}\n{json.dumps(record)}")
        categories = [{"id": ids[value], "name": labels.name(value), "supercategory": ""} for value in values]
        stream.write(f'\n],\n"images": {json.dumps(images)},\n"categories": {json.dumps(categories)}}}\n')
    return {"annotations": count}


def read_cvat_coco(folder: Path, labels: Labels) -> Iterator[Edited]:
    """Yield the images of each COCO file; what it calls a crowd is a mask."""
    return read_coco_files(folder, labels, crowds=True)


def _kept(labels: Labels, sample: Sample) -> Pixels:
    return as_shapes(labels.pixels(sample))


CVAT_COCO = ExchangeFormat(
    "cvat-coco",
    "CVAT's COCO 1.0",
    write_cvat_coco,
    read_cvat_coco,
    _kept,
    "a class's pixels without an instance become one instance",
)
