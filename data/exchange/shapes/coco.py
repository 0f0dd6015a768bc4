"""COCO: `instances.json`, with RLE masks and scores; its file names are relative to the data set."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from data.dataset import CocoSource, DatasetError, Problem, Sample
from data.exchange.pixels import Canvas, Pixels, Region, cropped, size_text
from data.exchange.spec import Edited, ExchangeFormat, Labels
from data.files import visible
from data.formats.coco import annotation_mask, each_annotation, is_crowd, read_coco
from data.formats.label_folder import DETECTIONS


def write_coco(labels: Labels, folder: Path) -> dict[str, Any]:
    """Copy the run's COCO file, once it has been read; return the number of its annotations."""
    annotations = read_coco(labels.folder / DETECTIONS).annotations
    shutil.copyfile(labels.folder / DETECTIONS, folder / DETECTIONS)
    for _ in labels.samples:
        labels.done()
    return {"annotations": sum(map(len, annotations.values()))}


def read_coco_files(folder: Path, labels: Labels, *, crowds: bool = False) -> Iterator[Edited]:
    """Yield the images of each COCO file in a folder, or in `annotations/`.

    Args:
        crowds: Whether `iscrowd` is a way to write a mask, as tools have it, instead of a group of objects.

    Raises:
        DatasetError: There is no such file, or one is damaged.
    """
    files = [file for file in visible(folder, "*.json", "annotations/*.json") if file.name != "export.json"]
    if not files:
        raise DatasetError([Problem(folder, "expected COCO instance JSON, found none")])
    for file in files:
        coco = read_coco(file)
        if alone := [number for number in coco.annotations if number not in coco.images]:
            message = f"expected annotations of its own images, found {len(coco.annotations[alone[0]])} of {alone[0]!r}"
            raise DatasetError([Problem(file, message)])
        for number, image in coco.images.items():
            yield Edited(image["file_name"], file, partial(_read, file, number, crowds, labels))


def _read(file: Path, number: int, crowds: bool, labels: Labels, sample: Sample) -> Pixels:
    coco = read_coco(file)
    shape = labels.size(sample)
    said = coco.images[number]["height"], coco.images[number]["width"]
    if None not in said and said != shape:
        raise ValueError(f"expected an image of {size_text(shape)}, found {size_text(said)}")
    found: list[Region] = []
    for record in coco.annotations[number]:
        name = coco.categories.get(record["category_id"])
        if name is None:
            raise ValueError(f"annotation {record['id']}: expected a category of the file, found none")
        if crowds or not is_crowd(record):
            found.append(cropped(annotation_mask(record, *shape), labels.value(name)))
    return paint(found, shape)


def paint(found: Iterable[Region], shape: tuple[int, int]) -> Pixels:
    """Return regions as pixels, the smaller over the larger."""
    canvas = Canvas(shape)
    for region in sorted(found, key=lambda region: -int(region.mask.sum())):
        canvas.paint_region(region)
    return canvas.pixels


def instances_of(labels: Labels, sample: Sample) -> Iterator[Region]:
    """Yield the instances that a run's COCO file has of an image, each an object of its own."""
    # The run's file counts its images from 1.
    number = labels.number(sample)
    source = CocoSource(labels.folder / DETECTIONS, number, labels.classes.category_ids)
    first = 1 if labels.classes.has_background else 0
    for each in each_annotation(source):
        if each.index is not None and not each.crowd:
            yield cropped(each.mask, each.index + first)


def _kept(labels: Labels, sample: Sample) -> Pixels:
    return paint(instances_of(labels, sample), labels.size(sample))


COCO = ExchangeFormat("coco", "COCO JSON", write_coco, read_coco_files, _kept, "pixels without an instance, and void")
