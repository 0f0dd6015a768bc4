"""PASCAL VOC: its class names, and downloads of VOC and SBD for users with a network."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from data.dataset import DatasetError
from data.downloads import fetch
from data.formats.label_maps import write_label_map

logger = logging.getLogger(__name__)

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
VOC_ARCHIVES = {
    "2007": ("VOCtrainval_06-Nov-2007.tar", "7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508"),
    "2008": ("VOCtrainval_14-Jul-2008.tar", "7f0ca53c1b5a838fbe946965fc106c6e86832183240af5c88e3f6c306318d42e"),
    "2009": ("VOCtrainval_11-May-2009.tar", "11cbe1741fb5bdadbbca3c08e9ec62cd95c14884845527d50847bc2cf57e7fd6"),
    "2010": ("VOCtrainval_03-May-2010.tar", "1af4189cbe44323ab212bff7afbc7d0f55a267cc191eb3aac911037887e5c7d4"),
    "2011": ("VOCtrainval_25-May-2011.tar", "0a7f5f5d154f7290ec65ec3f78b72ef72c6d93ff6d79acd40dc222a9ee5248ba"),
    "2012": ("VOCtrainval_11-May-2012.tar", "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb"),
}
"""Year -> archive and its SHA-256."""
SBD_ARCHIVE = ("benchmark.tgz", "6a5a2918d5c73ce032fdeba876574d150d9d04113ab87540a1304cbcc715be53")
VOC_ADDRESS = "https://thor.robots.ox.ac.uk/pascal/VOC"
SBD_ADDRESS = "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours"


def download(root: Path, year: str = "2012", sbd: bool = True) -> Path:
    """Download VOC, and the Semantic Boundaries Dataset that extends its masks; torchvision unpacks both.

    With SBD, images that VOC has no masks for get SBD's, and the list `train_aug` is written: the images of either
    set's train and val lists without VOC's val (10,582 for 2012, the list that IRNet trains on).

    Args:
        root: Where `VOCdevkit/` and `SBD/` are placed; a finished download there is used again.
        year: "2007" to "2012".
        sbd: Whether SBD is added.

    Returns:
        The folder in the VOC layout, to be given as `--data`.

    Raises:
        DatasetError: There is no such year, or an archive does not have its SHA-256; it is removed, not unpacked.
    """
    if year not in VOC_ARCHIVES:
        raise DatasetError(f"VOC {year}: expected a year of {', '.join(VOC_ARCHIVES)}")
    # torchvision takes a second to import, and readers need this module for its names only.
    from torchvision.datasets import SBDataset, VOCSegmentation
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    logger.info("Downloading VOC %s to %s", year, root)
    archive, sha256 = VOC_ARCHIVES[year]
    # torchvision looks for the archive of 2008 under another name.
    fetch(f"{VOC_ADDRESS}/voc{year}/{archive}", root / DATASET_YEAR_DICT[year]["filename"], sha256)
    # Finds the archive, compares its MD5 once more, and unpacks it.
    dataset = VOCSegmentation(root, year=year, image_set="trainval", download=True)
    voc_root = Path(dataset.images[0]).parents[1]
    if sbd:
        sbd_root = root / "SBD"
        # torchvision moves this list into place last, and fails where files of an earlier download lie.
        is_finished = (sbd_root / "val.txt").is_file()
        logger.info("Adding SBD's masks from %s", sbd_root)
        if not is_finished:
            archive, sha256 = SBD_ARCHIVE
            fetch(f"{SBD_ADDRESS}/{archive}", sbd_root / archive, sha256)
        SBDataset(str(sbd_root), image_set="train", mode="segmentation", download=not is_finished)
        add_sbd(voc_root, sbd_root)
    return voc_root


def add_sbd(voc_root: Path, sbd_root: Path) -> int:
    """Add SBD's images, semantic and instance masks where VOC has none, and write the list `train_aug`.

    Args:
        voc_root: A folder in the VOC layout.
        sbd_root: SBD as torchvision unpacks it: `img`, `cls`, `inst`, `train.txt`, `val.txt`.

    Returns:
        The number of images in `train_aug`.
    """
    lists = voc_root / "ImageSets" / "Segmentation"
    sbd_ids = _read_ids(sbd_root / "train.txt") | _read_ids(sbd_root / "val.txt")
    for id in sorted(sbd_ids):
        image = voc_root / "JPEGImages" / f"{id}.jpg"
        if not image.exists():
            shutil.copyfile(sbd_root / "img" / image.name, image)
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
