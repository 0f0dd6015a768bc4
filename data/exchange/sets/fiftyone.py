"""FiftyOne: a folder of type `ImageSegmentationDirectory`, whose photographs are named by a manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.dataset import DatasetError, Problem
from data.exchange.maps.png import names_by_value
from data.exchange.maps.semantic_maps import read_semantic_maps, semantic_alone
from data.exchange.spec import Edited, ExchangeFormat, Labels
from data.formats.coco_records import read_json
from data.formats.label_maps import write_label_map

MANIFEST, MASKS, TARGETS = "data.json", "labels", "mask_targets.json"


def write_fiftyone(labels: Labels, folder: Path) -> dict[str, Any]:
    """Write `data.json` (image -> photograph), `labels/<id>.png` and `mask_targets.json` (value -> name).

    Returns:
        The number of "masks".
    """
    for sample, pixels in labels.images():
        write_label_map(folder / MASKS / f"{sample.id}.png", pixels.semantic, grey=True)
    photographs = {f"{sample.id}{sample.image.suffix}": str(sample.image.absolute()) for sample in labels.samples}
    (folder / MANIFEST).write_text(json.dumps(photographs, indent=1), encoding="utf-8")
    targets = {str(value): labels.name(value) for value in labels.named_values}
    (folder / TARGETS).write_text(json.dumps(targets, indent=1, ensure_ascii=False), encoding="utf-8")
    return {"masks": len(labels.samples)}


def read_fiftyone(folder: Path, labels: Labels) -> Iterator[Edited]:
    """Yield what lies in `labels/`."""
    try:
        names = names_by_value(read_json(folder / TARGETS, "JSON of values and names", once=True))
    except ValueError as error:
        raise DatasetError([Problem(folder / TARGETS, str(error))]) from None
    yield from read_semantic_maps(folder / MASKS, names, labels)


FIFTYONE = ExchangeFormat(
    "fiftyone", "FiftyOne's segmentation folder", write_fiftyone, read_fiftyone, semantic_alone, "no instances"
)
