"""YOLO for semantic segmentation: grey masks in `masks/`, beside `images/`, and `data.yaml` with the names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data.dataset import VOID, DatasetError, Problem
from data.exchange.maps.png import MASKS, refuse_lost_background
from data.exchange.maps.semantic_maps import read_semantic_maps, semantic_alone
from data.exchange.spec import Edited, ExchangeFormat, Labels
from data.formats.label_maps import write_label_map
from data.formats.yolo_names import FILE, read_yolo_names, write_yolo_names


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
    refuse_lost_background(names, labels, folder / FILE)
    yield from read_semantic_maps(folder / MASKS, names, labels)


YOLO_SEMANTIC = ExchangeFormat(
    "yolo-semantic", "YOLO's semantic masks", write_yolo_semantic, read_yolo_semantic, semantic_alone, "no instances"
)
