"""A folder of labels, as runs, predictions and published versions have it.

SegmentationClass/<id>.png     class values
SegmentationObject/<id>.png    instance ids, where there are instances
SegmentationSure/<id>.png      class values where the labels are sure, 255 elsewhere; where a run was told to write them
SegmentationConfidence/<id>.png  255 times the probability that the pixel's label is right, in grey; of runs
Saliency/<id>.png              255 times the probability of being salient, of networks that say it
instances.json                 COCO's instance JSON, likewise
classes.txt                    the name of a class a line; their values in the label maps count from 1 (of more than
                               254 classes, line 255 is "(void)", since 255 is void in every label map)
automatic/                     of images that a person corrected in a published version: the same before that
values.txt                     instead of it, of scenes, which have no background: the name of a value a line, from 0
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from data.dataset import ClassTable, Dataset, Sample
from data.formats.coco import Detection, ImageInfo, coco_json
from data.formats.images import image_size

SEMANTIC, INSTANCES = KINDS = ("SegmentationClass", "SegmentationObject")
SURE = "SegmentationSure"
CONFIDENCE = "SegmentationConfidence"
SALIENCY = "Saliency"
MAPS = (*KINDS, SURE, CONFIDENCE, SALIENCY)
"""Every kind of map that such a folder may have."""
DETECTIONS, CLASSES, VALUES = "instances.json", "classes.txt", "values.txt"
AUTOMATIC = "automatic"


def image_info(sample: Sample, dataset: Dataset) -> ImageInfo:
    """Return what COCO JSON says of an image; its file name is relative to the set's folder."""
    file, root = sample.image, dataset.root
    name = file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name
    return ImageInfo(sample.id, name, *image_size(file))


def index_files(
    infos: Iterable[ImageInfo], detections: Iterable[Detection] | None, classes: ClassTable
) -> dict[str, str]:
    """Return the files beside the label maps: name -> content. Without detections there are no instances."""
    files = {CLASSES if classes.has_background else VALUES: "".join(f"{name}\n" for name in classes.names)}
    if detections is not None:
        ordered = sorted(infos, key=lambda info: info.id)
        files[DETECTIONS] = json.dumps(coco_json(ordered, detections, classes))
    return files


def value_names(folder: Path) -> list[str]:
    """Return what the values of a folder's label maps are called, from 0; nothing where no file in it names them."""
    for name, first in ((CLASSES, ["background"]), (VALUES, [])):
        if (folder / name).is_file():
            return [*first, *(folder / name).read_text(encoding="utf-8", errors="replace").split("\n")[:-1]]
    return []
