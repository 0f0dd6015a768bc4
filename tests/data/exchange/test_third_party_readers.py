"""What other programs' own readers see of an export: the class of every pixel, where they are installed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from support.hard_labels import SIZE, hard_labels

from data.dataset import VOID
from data.exchange import FORMATS
from data.exchange.spec import Labels


def export(tmp_path: Path, name: str) -> tuple[Labels, Path]:
    labels = hard_labels(tmp_path)
    labels.place.mkdir()
    FORMATS[name].write(labels, labels.place)
    return labels, labels.place


def check(labels: Labels, seen: dict[str, np.ndarray]) -> None:
    assert seen.keys() == {sample.id for sample in labels.samples}
    for sample in labels.samples:
        np.testing.assert_array_equal(seen[sample.id], labels.pixels(sample).semantic, sample.id)


def painted(labels: Labels, shapes: list[tuple[np.ndarray, str]], unlabelled: int = 0) -> np.ndarray:
    found = np.full(SIZE, unlabelled, np.int64)
    for mask, name in shapes:
        found[mask] = labels.value(name)
    return found


def test_pycocotools_reads_what_is_for_cvat(tmp_path: Path) -> None:
    labels, folder = export(tmp_path, "cvat-coco")
    coco = COCO(str(folder / "annotations/instances_default.json"))
    names = {each["id"]: each["name"] for each in coco.loadCats(coco.getCatIds())}
    seen = {}
    for image in coco.loadImgs(coco.getImgIds()):
        found = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        shapes = [(coco.annToMask(each) > 0, names[each["category_id"]]) for each in found]
        seen[image["file_name"].removesuffix(".png")] = painted(labels, shapes)
    check(labels, seen)


@pytest.mark.parametrize(
    ("name", "format", "unlabelled"),
    [
        ("cvat-mask", "voc_segmentation", 0),
        ("cvat-mask", "voc_instance_segmentation", 0),
        ("cvat-coco", "coco_instances", 0),
        # COCO says nothing of void, and background is a category.
        ("coco-panoptic", "coco_panoptic", VOID),
    ],
)
def test_datumaro_reads_masks(tmp_path: Path, name: str, format: str, unlabelled: int) -> None:
    datumaro = pytest.importorskip("datumaro", reason="datumaro is not installed")
    labels, folder = export(tmp_path, name)
    # It asks for a place of photographs.
    (folder / "images").mkdir()
    found = datumaro.Dataset.import_from(str(folder), format)
    table = found.categories()[datumaro.AnnotationType.label]
    kind = datumaro.AnnotationType.mask
    seen = {}
    for item in found:
        masks = [each for each in item.annotations if each.type == kind]
        shapes = [(np.asarray(each.image) > 0, table[each.label].name) for each in masks]
        seen[item.id] = painted(labels, shapes, unlabelled)
    check(labels, seen)


def test_datasets_of_hugging_face_loads_the_folder(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    labels, folder = export(tmp_path, "huggingface")
    rows = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"), split="train")
    assert rows[3]["image"].size == SIZE[::-1]
    check(labels, {row["id"]: np.asarray(row["mask"]) for row in rows})


def test_labelme_reads_masks(tmp_path: Path) -> None:
    label_file = pytest.importorskip("labelme._label_file", reason="labelme is not installed")
    from labelme.utils.shape import shapes_to_label  # pyright: ignore[reportMissingImports]

    labels, folder = export(tmp_path, "labelme")
    values = {labels.name(value): value for value in labels.named_values}
    seen = {}
    for sample in labels.samples:
        found = label_file.read_label_file(str(folder / f"{sample.id}.json"))
        seen[sample.id] = shapes_to_label(SIZE, found.shapes, values)[0]
    check(labels, seen)


def test_label_studio_accepts_the_tasks_and_decodes_the_masks(tmp_path: Path) -> None:
    brush: Any = pytest.importorskip("label_studio_sdk.converter.brush", reason="label-studio-sdk is not installed")
    from label_studio_sdk.label_interface import LabelInterface  # pyright: ignore[reportMissingImports]

    labels, folder = export(tmp_path, "label-studio")
    interface = LabelInterface((folder / "interface.xml").read_text(encoding="utf-8"))
    seen = {}
    for task in json.loads((folder / "tasks.json").read_text(encoding="utf-8")):
        (prediction,) = task["predictions"]
        assert interface.validate_prediction(prediction)
        values = [result["value"] for result in prediction["result"]]
        shapes = [
            (brush.decode_rle(each["rle"]).reshape(*SIZE, 4)[..., 3] > 0, each["brushlabels"][0]) for each in values
        ]
        seen[task["data"]["id"]] = painted(labels, shapes)
    check(labels, seen)


def test_fiftyone_finds_photographs_and_masks(tmp_path: Path) -> None:
    importers = pytest.importorskip("fiftyone.utils.data.importers", reason="fiftyone is not installed")
    labels, folder = export(tmp_path, "fiftyone")
    found = importers.ImageSegmentationDirectoryImporter(str(folder), data_path="data.json", load_masks=True)
    found.setup()
    photographs = {sample.image.absolute(): sample.id for sample in labels.samples}
    check(labels, {photographs[Path(file)]: np.asarray(label.mask) for file, _, label in found})


def test_masks_of_yolo_are_bytes_of_one_channel(tmp_path: Path) -> None:
    labels, folder = export(tmp_path, "yolo-semantic")
    images = {sample.id: Image.open(folder / f"masks/{sample.id}.png") for sample in labels.samples}
    assert {image.mode for image in images.values()} == {"L"}
    check(labels, {id: np.asarray(image) for id, image in images.items()})
