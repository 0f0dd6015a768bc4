"""VOC and SBD end up in one folder of the VOC layout; the network is played by torchvision's stand-ins."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image
from scipy.io import savemat
from torchvision.datasets.voc import DATASET_YEAR_DICT

from data.dataset import DatasetError
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
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """Replace torchvision's two classes with ones that unpack the fabricated sets."""
    calls: list[dict[str, object]] = []

    class Voc:
        def __init__(self, root: Path, **options: object) -> None:
            calls.append({"name": "voc", **options})
            folder = Path(root) / "VOCdevkit" / f"VOC{options['year']}"
            if not folder.exists():
                fill_voc(folder)
            self.images = [str(folder / "JPEGImages" / f"{VOC_TRAIN[0]}.jpg")]

    class Sbd:
        def __init__(self, root: str, **options: object) -> None:
            calls.append({"name": "sbd", **options})
            if options["download"]:
                fill_sbd(Path(root))

    def fetch(url: str, file: Path, sha256: str) -> None:
        calls.append({"name": "fetch", "url": url, "file": file, "sha256": sha256})

    monkeypatch.setattr(voc, "fetch", fetch)
    monkeypatch.setattr(torchvision.datasets, "VOCSegmentation", Voc)
    monkeypatch.setattr(torchvision.datasets, "SBDataset", Sbd)
    return calls


def test_train_aug_is_both_sets_without_vocs_val(tmp_path: Path, calls: list[dict[str, object]]) -> None:
    root = voc.download(tmp_path)
    listed = (root / "ImageSets" / "Segmentation" / "train_aug.txt").read_text().split()
    assert listed == ["2007_000032", "2008_000015", "2009_000001"]
    assert [call["name"] for call in calls] == ["fetch", "voc", "fetch", "sbd"]
    assert [call["file"] for call in calls if "file" in call] == [
        tmp_path / "VOCtrainval_11-May-2012.tar",
        tmp_path / "SBD/benchmark.tgz",
    ]


def test_sbds_masks_fill_the_gaps_and_vocs_own_stay(tmp_path: Path, calls: list[dict[str, object]]) -> None:
    root = voc.download(tmp_path)
    for id in ("2008_000015", "2009_000001"):
        np.testing.assert_array_equal(read_label_map(root / "SegmentationClass" / f"{id}.png"), mask_of(id, "cls"))
        np.testing.assert_array_equal(read_label_map(root / "SegmentationObject" / f"{id}.png"), mask_of(id, "inst"))
    assert (read_label_map(root / "SegmentationClass" / "2007_000032.png") == 1).all()


def test_the_result_opens_as_a_data_set(tmp_path: Path, calls: list[dict[str, object]]) -> None:
    dataset, problems = open_dataset(voc.download(tmp_path), split="train_aug")
    assert not problems
    assert {sample.id: sample.labels for sample in dataset.samples} == {
        "2007_000032": (0,),
        "2008_000015": (14,),
        "2009_000001": (14,),
    }
    assert all(sample.semantic and sample.instances for sample in dataset.samples)


def test_a_second_download_fetches_sbd_no_more(tmp_path: Path, calls: list[dict[str, object]]) -> None:
    root = voc.download(tmp_path)
    shutil.rmtree(root / "SegmentationObject")
    voc.download(tmp_path)
    assert [call["download"] for call in calls if call["name"] == "sbd"] == [True, False]
    assert [call["name"] for call in calls[-3:]] == ["fetch", "voc", "sbd"]
    assert (root / "SegmentationObject" / "2009_000001.png").is_file()


def test_voc_alone_leaves_sbd_out(tmp_path: Path, calls: list[dict[str, object]]) -> None:
    root = voc.download(tmp_path, year="2007", sbd=False)
    assert root == tmp_path / "VOCdevkit" / "VOC2007"
    assert [call["name"] for call in calls] == ["fetch", "voc"]
    assert calls[0]["url"] == "https://thor.robots.ox.ac.uk/pascal/VOC/voc2007/VOCtrainval_06-Nov-2007.tar"
    assert not (root / "ImageSets" / "Segmentation" / "train_aug.txt").exists()


def test_an_archive_of_other_bytes_is_not_unpacked(
    tmp_path: Path, calls: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise DatasetError("expected the SHA-256")

    monkeypatch.setattr(voc, "fetch", refuse)
    with pytest.raises(DatasetError, match="expected the SHA-256"):
        voc.download(tmp_path)
    assert calls == []
    with pytest.raises(DatasetError, match="VOC 2006: expected a year of 2007, "):
        voc.download(tmp_path, year="2006")


def test_every_archive_has_the_name_under_which_torchvision_looks_for_it(
    tmp_path: Path, calls: list[dict[str, object]]
) -> None:
    for year in voc.VOC_ARCHIVES:
        voc.download(tmp_path, year=year, sbd=False)
    found = [call["file"] for call in calls if call["name"] == "fetch"]
    assert found == [tmp_path / DATASET_YEAR_DICT[year]["filename"] for year in voc.VOC_ARCHIVES]


def test_the_names_are_vocs_in_the_order_of_their_values() -> None:
    assert len(voc.VOC_CLASSES) == len(set(voc.VOC_CLASSES)) == 20
    assert [voc.VOC_CLASSES[value - 1] for value in (1, 8, 15, 20)] == ["aeroplane", "cat", "person", "tvmonitor"]
