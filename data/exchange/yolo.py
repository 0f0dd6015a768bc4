"""YOLO segmentation: a text file of polygons per image, and `data.yaml` with the names.

A line is a class number and the corners of one outline, x and y as shares of the image's width and height. An instance
in several parts has a line per part; holes are filled: the form knows neither. Void pixels are background.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool

from data.dataset import CocoSource
from data.exchange.spec import ExchangeFormat, Labels
from data.formats.coco import read_annotations
from data.formats.label_folder import DETECTIONS

LEAST_CORNERS = 3


def write_yolo(labels: Labels, folder: Path) -> dict[str, Any]:
    """Write `labels/<id>.txt` for every image, empty where it has no instance, and `data.yaml`."""
    lines = 0
    # The run's file counts its images from 1.
    for number, sample in enumerate(labels.samples, start=1):
        source = CocoSource(labels.folder / DETECTIONS, number, labels.classes.category_ids)
        file = folder / "labels" / f"{sample.id}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = [
            f"{annotation.index} {' '.join(f'{value:.6g}' for value in outline.ravel())}\n"
            for annotation in read_annotations(source)
            if annotation.index is not None and not annotation.crowd
            for outline in outlines(annotation.mask)
        ]
        file.write_text("".join(rows), encoding="utf-8")
        lines += len(rows)
    # A JSON string is YAML.
    names = "".join(f"  {number}: {json.dumps(name)}\n" for number, name in enumerate(labels.classes.names))
    (folder / "data.yaml").write_text(f"path: .\ntrain: images\nval: images\nnames:\n{names}", encoding="utf-8")
    return {"polygons": lines}


def outlines(mask: Bool[np.ndarray, "h w"]) -> list[np.ndarray]:
    """Return the outer outline of each part of a mask: float [corners, 2] of (x, y), shares of width and height.

    The corners are those of the pixels, so that filling the outline gives the pixels again.
    """
    height, width = mask.shape
    # At twice the size and one row and column more, the middle of a border pixel's outer edge is a pixel of its own.
    doubled = np.zeros((2 * height + 1, 2 * width + 1), np.uint8)
    rows, columns = np.nonzero(mask)
    for down in range(3):
        for right in range(3):
            doubled[2 * rows + down, 2 * columns + right] = 1
    found, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [corners[:, 0] / (2 * width, 2 * height) for corners in found if len(corners) >= LEAST_CORNERS]


YOLO = ExchangeFormat("yolo", "YOLO polygons", write_yolo)
