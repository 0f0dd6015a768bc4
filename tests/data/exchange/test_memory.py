"""Many small objects in a large image: formats hold their pixels, not a mask of the image for each."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from support.hard_labels import hard_labels

from data.exchange import FORMATS
from data.exchange.changes import find_change
from data.exchange.spec import Labels
from data.formats.coco import encode_mask
from data.formats.label_maps import write_label_map

SIDE = 600


def specks(tmp_path: Path) -> Labels:
    """Return labels of one image of 600 x 600 pixels with 100 objects of one pixel."""
    labels = hard_labels(tmp_path)
    sample = labels.find("mixed")
    objects = np.zeros((SIDE, SIDE), np.uint16)
    objects[::60, ::60] = np.arange(256, 356).reshape(10, 10)
    write_label_map(labels.file("SegmentationClass", sample), (objects > 0).astype(np.uint8))
    write_label_map(labels.file("SegmentationObject", sample), objects)
    document = json.loads((labels.folder / "instances.json").read_text())
    number = labels.number(sample)
    document["images"][number - 1] |= {"height": SIDE, "width": SIDE}
    document["annotations"] = [
        {"id": id, "image_id": number, "category_id": 1, "iscrowd": 0, "score": 1.0, "segmentation": encode_mask(mask)}
        for id, mask in ((id, objects == id) for id in range(256, 356))
    ]
    (labels.folder / "instances.json").write_text(json.dumps(document))
    return labels


@pytest.mark.parametrize("name", ["coco", "yolo", "x-anylabeling"])
def test_many_small_objects_take_little_memory(tmp_path: Path, name: str) -> None:
    labels, format = specks(tmp_path), FORMATS[name]
    sample = labels.find("mixed")
    labels.place.mkdir()
    tracemalloc.start()
    try:
        format.write(labels, labels.place)
        (edited,) = [each for each in format.read(labels.place, labels) if labels.find(each.name) is sample]
        again, kept = edited.read(sample), format.kept(labels, sample)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert find_change(kept, again, labels.name) is None
    assert len(np.unique(again.objects)) == 101
    # Masks of the whole image would be 36 MB.
    assert peak < 33e6
