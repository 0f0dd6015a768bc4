"""VOC and SBD end up in one folder of the VOC layout."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from data.formats import voc
from data.formats.label_maps import read_label_map, write_label_map
from data.readers import open_dataset

VOC_TRAIN, VOC_VAL = ["2007_000032"], ["2007_000033", "2008_000002"]
SBD_TRAIN, SBD_VAL = ["2008_000002", "2008_000015"], ["2007_000032", "2009_000001"]
SIZE = (6, 8)


def mask_of(id: str, kind: str) -> np.ndarray:
    value = {"cls": 15, "inst": 2}[kind]
    return np.where(np.arange(48).reshape(SIZE) < 10 + int(id[-2:]), value, 0).astype(np.uint8)


def fill_voc(folder: Path) -> None:
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("\n".join(VOC_TRAIN) + "\n")
    (lists / "val.txt").write_text("\n".join(VOC_VAL) + "\n")
    (folder / "JPEGImages").mkdir()
    for id in {*VOC_TRAIN, *VOC_VAL, "2008_000015"}:
        Image.new("RGB", SIZE[::-1]).save(folder / "JPEGImages" / f"{id}.jpg")
    for id in VOC_TRAIN + VOC_VAL:
        for kind in ("SegmentationClass", "SegmentationObject"):
            write_label_map(folder / kind / f"{id}.png", np.full(SIZE, 1, np.uint8))


def fill_sbd(folder: Path) -> None:
    for name in ("img", "cls", "inst"):
        (folder / name).mkdir(parents=True)
    for id in {*SBD_TRAIN, *SBD_VAL}:
        Image.new("RGB", SIZE[::-1]).save(folder / "img" / f"{id}.jpg")
        for kind, field in (("cls", "GTcls"), ("inst", "GTinst")):
            savemat(folder / kind / f"{id}.mat", {field: {"Segmentation": mask_of(id, kind), "Boundaries": [0, 1]}})
    (folder / "train.txt").write_text("\n".join(SBD_TRAIN) + "\n")
    (folder / "val.txt").write_text("\n".join(SBD_VAL) + "\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a fabricated VOC that SBD was added to."""
    fill_voc(tmp_path / "VOC2012")
    fill_sbd(tmp_path / "SBD")
    assert voc.add_sbd(tmp_path / "VOC2012", tmp_path / "SBD") == 3
    return tmp_path / "VOC2012"


def test_train_aug_is_both_sets_without_vocs_val(root: Path) -> None:
    listed = (root / "ImageSets" / "Segmentation" / "train_aug.txt").read_text().split()
    assert listed == ["2007_000032", "2008_000015", "2009_000001"]


def test_sbds_masks_fill_the_gaps_and_vocs_own_stay(root: Path) -> None:
    for id in ("2008_000015", "2009_000001"):
        np.testing.assert_array_equal(read_label_map(root / "SegmentationClass" / f"{id}.png"), mask_of(id, "cls"))
        np.testing.assert_array_equal(read_label_map(root / "SegmentationObject" / f"{id}.png"), mask_of(id, "inst"))
    assert (read_label_map(root / "SegmentationClass" / "2007_000032.png") == 1).all()


def test_the_result_opens_as_a_data_set(root: Path) -> None:
    dataset, problems = open_dataset(root, split="train_aug")
    assert not problems
    assert {sample.id: sample.labels for sample in dataset.samples} == {
        "2007_000032": (0,),
        "2008_000015": (14,),
        "2009_000001": (14,),
    }
    assert all(sample.semantic and sample.instances for sample in dataset.samples)


def test_masks_that_were_lost_are_added_again(root: Path) -> None:
    shutil.rmtree(root / "SegmentationObject")
    voc.add_sbd(root, root.parent / "SBD")
    assert (root / "SegmentationObject" / "2009_000001.png").is_file()


def test_the_names_are_vocs_in_the_order_of_their_values() -> None:
    assert len(voc.VOC_CLASSES) == len(set(voc.VOC_CLASSES)) == 20
    assert [voc.VOC_CLASSES[value - 1] for value in (1, 8, 15, 20)] == ["aeroplane", "cat", "person", "tvmonitor"]
