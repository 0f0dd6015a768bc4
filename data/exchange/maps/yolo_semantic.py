"""YOLO for semantic segmentation: grey masks in `masks/`, beside `images/`, and `data.yaml` with the names."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data.dataset import VOID, DatasetError, Problem, Sample
from data.exchange.maps.png import MASKS, map_files, renamed
from data.exchange.pixels import Pixels
from data.exchange.spec import Edited, ExchangeFormat, Labels
from data.exchange.yolo_names import read_yolo_names, write_yolo_names
from data.formats.label_maps import read_label_map, write_label_map


def write_yolo_semantic(labels: Labels, folder: Path) -> dict[str, Any]:
    """Write `masks/<id>.png` of bytes, 255 void, and `data.yaml`.

    Raises:
        DatasetError: There are more than 254 classes, or label maps are missing or damaged.
    """
    if len(labels.classes.values) > VOID:
        message = f"YOLO's masks have bytes: expected 254 classes at most, found {len(labels.classes.real_names)}"
        raise DatasetError([Problem(labels.folder, message)])
    for sample, pixels in labels.images():
        write_label_map(folder / MASKS / f"{sample.id}.png", pixels.semantic.astype(np.uint8), grey=True)
    write_yolo_names(folder, labels.classes.values, masks_dir=MASKS)
    return {"masks": len(labels.samples)}


def read_yolo_semantic(folder: Path, labels: Labels) -> Iterator[Edited]:
    """Yield what lies in `masks/`."""
    names = read_yolo_names(folder)
    for file in map_files(folder / MASKS):
        name = file.relative_to(folder / MASKS).as_posix()
        yield Edited(name, file, partial(_read, file, names, labels))


def _read(file: Path, names: list[str], labels: Labels, _: Sample) -> Pixels:
    return Pixels(renamed(read_label_map(file), names, labels), None)


def _kept(labels: Labels, sample: Sample) -> Pixels:
    return Pixels(labels.pixels(sample).semantic, None)


YOLO_SEMANTIC = ExchangeFormat(
    "yolo-semantic", "YOLO's semantic masks", write_yolo_semantic, read_yolo_semantic, _kept, "no instances"
)
