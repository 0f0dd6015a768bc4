"""COCO: `instances.json`, with RLE masks and scores; its file names are relative to the data set."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from data.exchange.spec import ExchangeFormat, Labels
from data.formats.coco import read_coco
from data.formats.label_folder import DETECTIONS


def write_coco(labels: Labels, folder: Path) -> dict[str, Any]:
    """Copy the run's COCO file, once it has been read; return the number of its annotations."""
    annotations = read_coco(labels.folder / DETECTIONS).annotations
    shutil.copyfile(labels.folder / DETECTIONS, folder / DETECTIONS)
    return {"annotations": sum(map(len, annotations.values()))}


COCO = ExchangeFormat("coco", "COCO JSON", write_coco)
