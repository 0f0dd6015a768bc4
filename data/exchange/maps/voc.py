"""VOC: palette PNGs of classes and objects, a list of images, a class table."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from data.dataset import DatasetError, Problem
from data.exchange.maps.png import map_files, read_names, read_pair
from data.exchange.spec import BACKGROUND_NAME, Edited, ExchangeFormat, Labels
from data.formats.label_folder import CLASSES, CONFIDENCE, INSTANCES, KINDS, SEMANTIC, SURE
from data.names import is_background


def write_voc(labels: Labels, folder: Path) -> dict[str, Any]:
    """Copy the label maps, and write `ImageSets/Segmentation/train.txt` (the images' ids) and `classes.txt`.

    Raises:
        DatasetError: Lists every label map that is missing.
    """
    kinds = (*KINDS, *(kind for kind in (SURE, CONFIDENCE) if (labels.folder / kind).is_dir()))
    labels.refuse_missing(*kinds)
    for sample in labels.samples:
        for kind in kinds:
            target = folder / kind / f"{sample.id}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(labels.file(kind, sample), target)
        labels.done()
    write_list(folder / "ImageSets" / "Segmentation" / "train.txt", labels)
    (folder / CLASSES).write_text("".join(f"{name}\n" for name in labels.classes.names), encoding="utf-8")
    return {}


def write_list(file: Path, labels: Labels) -> None:
    """Write the images' ids, one per line."""
    file.parent.mkdir(parents=True)
    file.write_text("".join(f"{sample.id}\n" for sample in labels.samples), encoding="utf-8")


def read_voc(folder: Path, labels: Labels) -> Iterator[Edited]:
    """Yield what lies in `SegmentationClass`, with the instances beside it; the values are those of `classes.txt`.

    The background's name may stand before the classes', as labelme writes it, and counts for none.

    Raises:
        DatasetError: It stands among them, so that the values below are unclear.
    """
    names = read_names(folder / CLASSES)
    names = names[1:] if names and is_background(names[0]) else names
    if among := [number for number, name in enumerate(names, start=1) if is_background(name)]:
        message = f"expected the names of classes, found that of the background as number {among[0]}: take it out"
        raise DatasetError([Problem(folder / CLASSES, message)])
    names = [BACKGROUND_NAME, *names]
    for file in map_files(folder / SEMANTIC):
        name = file.relative_to(folder / SEMANTIC).as_posix()
        yield Edited(name, file, partial(read_pair, file, folder / INSTANCES / name, names, labels))


VOC = ExchangeFormat("voc", "VOC label maps", write_voc, read_voc)
