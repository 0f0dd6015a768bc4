"""YOLO segmentation: a text file of polygons per image, and `data.yaml` with the names.

A line is a class number and the corners of one outline, x and y as shares of the image's width and height. An instance
in several parts has a line per part; holes are filled: the form knows neither. Void pixels are background.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.dataset import DatasetError, Problem, Sample
from data.exchange.json_fields import is_number_below
from data.exchange.outlines import LEAST_CORNERS, fill, filled_parts
from data.exchange.pixels import Pixels, Region, cropped
from data.exchange.shapes.coco import instances_of, paint
from data.exchange.spec import Edited, ExchangeFormat, Labels
from data.files import files_below, read_regular
from data.formats.yolo_names import read_yolo_names, write_yolo_names

FOLDER = "labels"


def write_yolo(labels: Labels, folder: Path) -> dict[str, Any]:
    """Write `labels/<id>.txt` for every image, empty where it has no instance, and `data.yaml`."""
    lines = 0
    first = 1 if labels.classes.has_background else 0
    for sample in labels.samples:
        file = folder / FOLDER / f"{sample.id}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        height, width = labels.size(sample)
        sides = width, height
        rows = [
            f"{region.value - first} {' '.join(f'{side:.6g}' for side in (corners / sides).ravel())}\n"
            for region in instances_of(labels, sample)
            for corners, _ in filled_parts(region)
        ]
        file.write_text("".join(rows), encoding="utf-8")
        lines += len(rows)
        labels.done()
    write_yolo_names(folder, labels.classes.names)
    return {"polygons": lines}


def read_yolo(folder: Path, labels: Labels) -> Iterator[Edited]:
    """Yield the files of `labels/`; each line is an object."""
    names = read_yolo_names(folder)
    files = files_below(folder / FOLDER, {".txt"})
    if not files:
        raise DatasetError([Problem(folder / FOLDER, "expected a text file of polygons per image, found none")])
    for file in files:
        name = file.relative_to(folder / FOLDER).with_suffix("").as_posix()
        yield Edited(name, file, partial(_read, file, names, labels))


def _read(file: Path, names: list[str], labels: Labels, sample: Sample) -> Pixels:
    height, width = shape = labels.size(sample)
    found: list[Region] = []
    for number, line in enumerate(read_regular(file).decode().splitlines(), start=1):
        try:
            index, *sides = line.split()
            if not is_number_below(index, len(names)):
                raise ValueError(f"expected the number of one of {len(names)} classes, found {index:.80}")
            if len(sides) < 2 * LEAST_CORNERS or len(sides) % 2:
                raise ValueError(f"expected the corners of a polygon, found {len(sides)} numbers")
            corners = _numbers(sides).reshape(-1, 2) * (width, height)
            found.append(cropped(fill(corners, shape), labels.value(names[int(index)])))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    return paint(found, shape)


def _numbers(words: list[str]) -> NDArray[np.float64]:
    try:
        return np.array(words, np.float64)
    except ValueError:
        raise ValueError(f"expected numbers as corners, found {' '.join(words)!r:.80}") from None


def _kept(labels: Labels, sample: Sample) -> Pixels:
    parts = (part for region in instances_of(labels, sample) for _, part in filled_parts(region))
    return paint(parts, labels.size(sample))


YOLO = ExchangeFormat(
    "yolo",
    "YOLO polygons",
    write_yolo,
    read_yolo,
    _kept,
    "holes, which parts are one instance, pixels without an instance, and void",
)
