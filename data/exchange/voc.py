"""VOC: palette PNGs of classes and objects, a list of images, a class table."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from data.dataset import DatasetError, Problem
from data.exchange.spec import ExchangeFormat, Labels
from data.formats.label_folder import CONFIDENCE, KINDS, SURE


def write_voc(labels: Labels, folder: Path) -> dict[str, Any]:
    """Copy the label maps, and write `ImageSets/Segmentation/train.txt` (the images' ids) and `classes.txt`.

    Raises:
        DatasetError: Lists every label map that is missing.
    """
    kinds = (*KINDS, *(kind for kind in (SURE, CONFIDENCE) if (labels.folder / kind).is_dir()))
    names = [f"{kind}/{sample.id}.png" for kind in kinds for sample in labels.samples]
    if missing := [labels.folder / name for name in names if not (labels.folder / name).is_file()]:
        raise DatasetError([Problem(file, "expected a label map of the run, found none") for file in missing])
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(labels.folder / name, folder / name)
    listing = folder / "ImageSets" / "Segmentation" / "train.txt"
    listing.parent.mkdir(parents=True)
    listing.write_text("".join(f"{sample.id}\n" for sample in labels.samples), encoding="utf-8")
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in labels.classes.names), encoding="utf-8")
    return {}


VOC = ExchangeFormat("voc", "VOC label maps", write_voc)
