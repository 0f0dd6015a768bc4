"""PASCAL VOC: its class names, and the masks of SBD in its layout."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from data.files import replacing
from data.formats.label_maps import write_label_map

VOC_CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
"""The 20 foreground classes in the order of their values 1 to 20 in VOC's label maps."""


def add_sbd(voc_root: Path, sbd_root: Path) -> int:
    """Add SBD's images, semantic and instance masks where VOC has none, and write the list `train_aug`.

    Args:
        voc_root: A folder in the VOC layout.
        sbd_root: The folder of SBD's `img`, `cls`, `inst`, `train.txt`, `val.txt`.

    Returns:
        The number of images in `train_aug`.
    """
    lists = voc_root / "ImageSets" / "Segmentation"
    sbd_ids = _read_ids(sbd_root / "train.txt") | _read_ids(sbd_root / "val.txt")
    for id in sorted(sbd_ids):
        image = voc_root / "JPEGImages" / f"{id}.jpg"
        if not image.exists():
            with replacing(image) as temporary:
                shutil.copyfile(sbd_root / "img" / image.name, temporary)
        for folder, kind in (("SegmentationClass", "cls"), ("SegmentationObject", "inst")):
            mask = voc_root / folder / f"{id}.png"
            if not mask.exists():
                write_label_map(mask, read_sbd_mask(sbd_root / kind / f"{id}.mat"))
    train_aug = (sbd_ids - _read_ids(lists / "val.txt")) | _read_ids(lists / "train.txt")
    _write_ids(lists / "train_aug.txt", train_aug)
    return len(train_aug)


def read_sbd_mask(file: Path) -> np.ndarray:
    """Read the segmentation of SBD's `cls` file (classes) or `inst` file (instance ids) as uint8 [H, W]."""
    from scipy.io import loadmat

    content = loadmat(file, simplify_cells=True)
    truth = content["GTcls"] if "GTcls" in content else content["GTinst"]
    return np.asarray(truth["Segmentation"], np.uint8)


def _read_ids(file: Path) -> set[str]:
    return set(file.read_text().split())


def _write_ids(file: Path, ids: Iterable[str]) -> None:
    file.write_text("".join(f"{id}\n" for id in sorted(ids)))
