"""`import corrections`: what a tool wrote twice, elsewhere or in another order is read rightly, or refused by name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.hard_labels import hard_labels, publish_labels

from data.dataset import DatasetError
from data.exchange.spec import Labels
from data.formats.label_maps import VOC_PALETTE, read_label_map
from flows.commands.storing.export_labels import export_labels
from flows.commands.storing.import_corrections import ImportRequest, import_corrections


@pytest.fixture
def labels(tmp_path: Path) -> Labels:
    labels = hard_labels(tmp_path)
    publish_labels(tmp_path, labels)
    return labels


def take(tmp_path: Path, format: str) -> dict[str, Any]:
    values: dict[str, Any] = {"what": "corrections", "folder": tmp_path / "out", "to": tmp_path / "published"}
    return import_corrections(ImportRequest(**values, format=format))  # pyright: ignore


def refused(tmp_path: Path, format: str) -> str:
    with pytest.raises(DatasetError) as caught:
        take(tmp_path, format)
    assert not (tmp_path / "published/corrections").exists()
    return str(caught.value)


def rewrite(file: Path, change: Callable[[str], str]) -> None:
    file.write_text(change(file.read_text(encoding="utf-8")), encoding="utf-8")


# Lists of names


@pytest.mark.parametrize("head", ["background\n", "_background_\n", "__ignore__\n_background_\n", "void\n"])
def test_names_of_no_class_at_the_head_of_classes_txt_shift_nothing(tmp_path: Path, labels: Labels, head: str) -> None:
    export_labels(tmp_path / "published", tmp_path / "out", "voc")
    rewrite(tmp_path / "out/classes.txt", lambda text: head + text)
    assert take(tmp_path, "voc")["taken"] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: f"\n{text}", "line 1: expected a name, found none"),
        (lambda text: text.replace("\n", "\n\n", 1), "line 2: expected a name, found none"),
        (lambda text: text.replace("\n", "\na dog\n", 1), "expected each name once, found 'a dog' twice"),
        (
            lambda text: text.replace("\n", "\nbackground\n", 1),
            "expected the names of classes, found that of the background as number 2",
        ),
    ],
)
def test_lines_that_would_shift_classes_are_refused(
    tmp_path: Path, labels: Labels, change: Callable[[str], str], message: str
) -> None:
    export_labels(tmp_path / "published", tmp_path / "out", "voc")
    rewrite(tmp_path / "out/classes.txt", change)
    assert f"classes.txt: {message}" in refused(tmp_path, "voc")


@pytest.mark.parametrize(("format", "file"), [("png", "values.txt"), ("yolo-semantic", "data.yaml")])
def test_the_background_is_known_by_its_usual_names_and_missed_where_it_lacks(
    tmp_path: Path, labels: Labels, format: str, file: str
) -> None:
    export_labels(tmp_path / "published", tmp_path / "out", format)
    original = (tmp_path / "out" / file).read_text(encoding="utf-8")
    for name in ("_background_", "Background"):
        (tmp_path / "out" / file).write_text(original.replace("background", name, 1), encoding="utf-8")
        assert take(tmp_path, format)["taken"] == []
    (tmp_path / "out" / file).write_text(original.replace("background", "a cat", 1), encoding="utf-8")
    assert f"{file}: expected the name of value 0 first, 'background', found 'a cat'" in refused(tmp_path, format)


def test_values_that_have_a_name_twice_are_refused(tmp_path: Path, labels: Labels) -> None:
    export_labels(tmp_path / "published", tmp_path / "out", "fiftyone")
    file = tmp_path / "out/mask_targets.json"
    document = json.loads(file.read_text())
    for more, message in (
        ({"2": document["1"]}, "expected a name for each value, found 'a dog' twice"),
        ({"01": "Straße"}, "expected a name for each value, found 1 twice"),
    ):
        file.write_text(json.dumps(document | more))
        assert message in refused(tmp_path, "fiftyone")
    file.write_text(json.dumps(document)[:-1] + ', "1": "Straße"}')
    assert "but the field '1' comes twice" in refused(tmp_path, "fiftyone")


# Twice


@pytest.mark.parametrize(
    ("format", "file", "copy"),
    [
        ("cvat-mask", "SegmentationClass/mixed.png", "SegmentationClass/set/mixed.png"),
        ("cvat-mask", "SegmentationClass/mixed.png", "SegmentationClass/mixed.PNG"),
        ("yolo", "labels/mixed.txt", "labels/set/mixed.txt"),
        ("yolo", "labels/mixed.txt", "labels/mixed.jpg.txt"),
        ("yolo", "labels/mixed.txt", "labels/mixed.TXT"),
        ("cvat-coco", "annotations/instances_default.json", "annotations/instances_train.json"),
        ("labelme", "mixed.json", "set/mixed.json"),
    ],
)
def test_both_places_of_an_image_that_comes_twice_are_named(
    tmp_path: Path, labels: Labels, format: str, file: str, copy: str
) -> None:
    export_labels(tmp_path / "published", tmp_path / "out", format)
    (tmp_path / "out" / copy).parent.mkdir(exist_ok=True)
    shutil.copy(tmp_path / "out" / file, tmp_path / "out" / copy)
    said = refused(tmp_path, format)
    assert "expected each image once, found 'mixed' again" in said
    line = next(line for line in said.splitlines() if "'mixed' again" in line)
    assert str(tmp_path / "out" / file) in line
    assert str(tmp_path / "out" / copy) in line


@pytest.mark.parametrize("name", ["mixed.png", "mixed.jpg"])
def test_both_names_of_an_image_that_cvat_has_twice_are_named(tmp_path: Path, labels: Labels, name: str) -> None:
    export_labels(tmp_path / "published", tmp_path / "out", "cvat-coco")
    file = tmp_path / "out/annotations/instances_default.json"
    document = json.loads(file.read_text())
    document["images"].append({"id": 99, "file_name": name})
    file.write_text(json.dumps(document))
    assert f"{name}: expected each image once, found 'mixed' again: mixed.png in {file}" in refused(
        tmp_path, "cvat-coco"
    )


@pytest.mark.parametrize(
    ("format", "file"), [("coco", "instances.json"), ("cvat-coco", "annotations/instances_default.json")]
)
def test_annotations_of_no_image_are_not_dropped(tmp_path: Path, labels: Labels, format: str, file: str) -> None:
    export_labels(tmp_path / "published", tmp_path / "out", format)
    document = json.loads((tmp_path / "out" / file).read_text())
    document["annotations"][0]["image_id"] = 777
    (tmp_path / "out" / file).write_text(json.dumps(document))
    assert "expected annotations of its own images, found 1 of 777" in refused(tmp_path, format)


def test_ids_that_come_twice_in_panoptic_json_are_refused(tmp_path: Path, labels: Labels) -> None:
    export_labels(tmp_path / "published", tmp_path / "out", "coco-panoptic")
    file = tmp_path / "out/annotations/panoptic_default.json"
    document = json.loads(file.read_text())
    first, second = document["categories"][:2]
    file.write_text(json.dumps(document | {"categories": [*document["categories"], first | {"name": second["name"]}]}))
    assert f"expected a different id for each category, found {first['id']} twice" in refused(tmp_path, "coco-panoptic")
    segments = document["annotations"][0]["segments_info"]
    segments.append(segments[0] | {"category_id": second["id"]})
    file.write_text(json.dumps(document))
    assert "expected a different id for each segment, found 1 twice" in refused(tmp_path, "coco-panoptic")


# Links and palettes


@pytest.mark.parametrize(
    ("format", "name"),
    [
        ("png", "masks/mixed.png"),
        ("png", "instances/mixed.png"),
        ("png", "images.csv"),
        ("png", "export.json"),
        ("cvat-mask", "SegmentationObject/mixed.png"),
        ("voc", "SegmentationClass/mixed.png"),
        ("yolo", "labels/mixed.txt"),
    ],
)
def test_a_link_to_nothing_is_not_what_nobody_wrote(tmp_path: Path, labels: Labels, format: str, name: str) -> None:
    export_labels(tmp_path / "published", tmp_path / "out", format)
    file = tmp_path / "out" / name
    file.unlink()
    file.symlink_to("/nowhere/x")
    assert f"{file}: expected a file that the tool wrote, found a link to /nowhere/x" in refused(tmp_path, format)


def test_a_folder_of_instances_that_leads_nowhere_is_named(tmp_path: Path, labels: Labels) -> None:
    export_labels(tmp_path / "published", tmp_path / "out", "png")
    shutil.rmtree(tmp_path / "out/instances")
    assert take(tmp_path, "png")["taken"] == []
    (tmp_path / "out/instances").symlink_to("/nowhere")
    assert f"{tmp_path / 'out/instances'}: expected a file that the tool wrote" in refused(tmp_path, "png")


def swap(file: Path, first: int, second: int) -> None:
    """Save a map anew with two colours of VOC's palette in another order; it looks as it did."""
    values = read_label_map(file)
    table, palette = np.arange(256, dtype=np.uint8), VOC_PALETTE.copy()
    table[[first, second]], palette[[first, second]] = table[[second, first]], palette[[second, first]]
    image = Image.fromarray(table[values])
    image.putpalette(palette.tobytes())
    image.save(file)


@pytest.mark.parametrize("id", [["mixed"], ["mixed", "in a folder/größe 1.5", "in a folder/z", "empty"]])
def test_a_map_of_voc_with_its_palette_in_another_order_is_refused(
    tmp_path: Path, labels: Labels, id: list[str]
) -> None:
    export_labels(tmp_path / "published", tmp_path / "out", "voc")
    for each in id:
        swap(tmp_path / f"out/SegmentationClass/{each}.png", 2, 3)
    said = refused(tmp_path, "voc")
    assert "SegmentationClass/mixed.png: expected the palette of the other masks" in said
    assert "here it is 3" in said or "here it is 2" in said


def test_maps_of_cvat_are_read_by_colour_in_whatever_order(tmp_path: Path, labels: Labels) -> None:
    export_labels(tmp_path / "published", tmp_path / "out", "cvat-mask")
    swap(tmp_path / "out/SegmentationClass/mixed.png", 2, 3)
    assert take(tmp_path, "cvat-mask")["taken"] == []


def test_grey_maps_of_a_tool_with_palettes_of_its_own_are_compared_with_each_other(
    tmp_path: Path, labels: Labels
) -> None:
    export_labels(tmp_path / "published", tmp_path / "out", "png")
    masks = tmp_path / "out/masks"
    for id in ("mixed", "in a folder/z"):
        image = Image.fromarray(read_label_map(masks / f"{id}.png"))
        image.putpalette(VOC_PALETTE.tobytes())
        image.save(masks / f"{id}.png")
    assert take(tmp_path, "png")["taken"] == []
    swap(masks / "mixed.png", 2, 3)
    assert "masks/mixed.png: expected the palette of the other masks" in refused(tmp_path, "png")
