"""Labels beside the label maps of scenes: one of both is meant, and `doctor` names what it took."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data.dataset import Dataset, DatasetError
from data.readers import open_dataset
from flows.commands.looking.doctor import examine_dataset

LAYOUTS = {
    "camvid": ("train/{}.png", "trainannot/{}.png", "trainannot/"),
    "frames": ("701_StillsRaw_full/{}.png", "LabeledApproved_full/{}_L.png", "LabeledApproved_full/"),
    "cityscapes": ("leftImg8bit/train/x/{}_leftImg8bit.png", "gtFine/train/x/{}_gtFine_labelIds.png", "gtFine/"),
    "duts": ("DUTS-TR/DUTS-TR-Image/{}.png", "DUTS-TR/DUTS-TR-Mask/{}.png", "DUTS-TR/DUTS-TR-Mask/"),
    "ecssd": ("images/{}.png", "ground_truth_mask/{}.png", "ground_truth_mask/"),
    "sunrgbd": ("SUNRGBD-train_images/img-00000{}.jpg", "sunrgbd_train_test_labels/img-00505{}.png", None),
}
SOURCES = ("labels.csv", "labels.json", "labels.ndjson", "Annotations", "annotations/instances.json")


def scenes(root: Path, layout: str) -> list[str]:
    """Write three images with label maps; return the images' names."""
    image, label_map, _ = LAYOUTS[layout]
    names = []
    for id in "123":
        for name, mode in ((image, "RGB"), (label_map, "RGB" if layout == "frames" else "L")):
            file = root / name.format(id)
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new(mode, (8, 8)).save(file)
        names.append(image.format(id))
    return names


def label(root: Path, source: str, names: list[str]) -> Path:
    """Write labels that say of every image that there is a dog."""
    file = root / source
    file.parent.mkdir(exist_ok=True)
    if source == "Annotations":
        for name in names:
            (file / name).parent.mkdir(parents=True, exist_ok=True)
            (file / name).with_suffix(".xml").write_text("<annotation><object><name>dog</name></object></annotation>")
        return file
    content: Any = "image,labels\n" + "".join(f"{name},dog\n" for name in names)
    if source.endswith(".ndjson"):
        content = "\n".join(json.dumps({"image": name, "labels": ["dog"]}) for name in names)
    elif source == "labels.json":
        content = json.dumps({name: ["dog"] for name in names})
    elif source.endswith(".json"):
        images = [{"id": number, "file_name": name} for number, name in enumerate(names)]
        annotations = [{"id": number, "image_id": number, "category_id": 1} for number in range(len(names))]
        categories = [{"id": 1, "name": "dog"}]
        content = json.dumps({"images": images, "annotations": annotations, "categories": categories})
    file.write_text(content)
    return file


def dogs(dataset: Dataset) -> int:
    return sum(sample.labels == (0,) for sample in dataset.samples)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("layout", ["cityscapes", "ecssd"])
def test_both_sources_are_named_and_the_labels_can_be_chosen(tmp_path: Path, layout: str, source: str) -> None:
    names, folder = scenes(tmp_path, layout), LAYOUTS[layout][2]
    file = label(tmp_path, source, names)
    with pytest.raises(DatasetError) as caught:
        open_dataset(tmp_path)
    said = (
        f"{file}: expected one source of labels, found this one beside {folder}, label maps of scenes: --labels {file}"
    )
    assert said in str(caught.value)
    dataset, _ = open_dataset(tmp_path, labels=file)
    assert dataset.classes.names == ("dog",)
    assert (len(dataset.samples), dogs(dataset)) == (3, 3)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_label_maps_are_no_photographs_where_a_table_is_chosen(tmp_path: Path, layout: str) -> None:
    file = label(tmp_path, "labels.csv", scenes(tmp_path, layout))
    dataset, _ = open_dataset(tmp_path, labels=file)
    assert (len(dataset.samples), dogs(dataset)) == (3, 3)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_doctor_says_which_label_maps_it_took(tmp_path: Path, layout: str) -> None:
    scenes(tmp_path, layout)
    facts, _ = examine_dataset(tmp_path, None, None, None)
    assert (
        facts["labels"] == f"{LAYOUTS[layout][2] or 'sunrgbd_train_test_labels/'}: label maps of the set's own coding"
    )
    (tmp_path / "classes.txt").write_text("dog\n")
    facts, _ = examine_dataset(tmp_path, None, None, None)
    assert any("left unread: classes.txt" in note for note in facts["notes"])
