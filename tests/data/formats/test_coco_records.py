"""What a COCO file may hold: every record is read rightly, or refused by its id, before C code sees a number of it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data.dataset import ClassTable, CocoSource, DatasetError
from data.formats.coco import coco_json, encode_mask, read_annotations, read_coco, read_maps
from data.formats.coco_records import read_mask
from data.readers import open_dataset
from data.validation import check_images, examine_images

SQUARE = [[2, 3, 9, 3, 9, 7, 2, 7]]
NESTED = "[" * 200_000


def annotation(id: object = 1, **fields: Any) -> dict[str, Any]:
    return {"id": id, "image_id": 7, "category_id": 17, "segmentation": SQUARE, **fields}


def write_set(root: Path, *annotations: dict[str, Any], **image: Any) -> Path:
    """Write a set of one image of 12 x 10, and return its COCO file."""
    file = root / "annotations" / "instances_train.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10), (90, 90, 90)).save(root / "a.jpg")
    content = {
        "images": [{"id": 7, "file_name": "a.jpg", "height": 10, "width": 12, **image}],
        "annotations": list(annotations),
        "categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}],
    }
    file.write_text(json.dumps(content))
    return file


def mask_of(file: Path) -> np.ndarray:
    return read_maps(CocoSource(file, 7, (17, 18)))[0]


def square() -> np.ndarray:
    mask = np.zeros((10, 12), np.uint8)
    mask[3:7, 2:9] = 1
    return mask


@pytest.mark.parametrize(
    "number", [math.inf, -math.inf, math.nan, 3e8, -1e9, 1e300, 10**400, "20", None, True, [1], {}]
)
def test_a_polygon_with_a_number_that_is_no_coordinate_is_refused_by_its_annotation(
    tmp_path: Path, number: object
) -> None:
    write_set(tmp_path, annotation(33, segmentation=[[2, 2, number, 2, 7, 6]]))
    dataset, _ = open_dataset(tmp_path)
    (problem,) = check_images(dataset, 1)
    assert problem.sample == "a"
    assert "image 7 (a.jpg)" in problem.message
    assert "annotation 33" in problem.message


@pytest.mark.parametrize(
    "counts",
    [
        [],
        "",
        [20],
        [120, 1],
        [-5, 125],
        [60.0, 60.0],
        [10**30],
        ["120"],
        None,
        7,
        "0",
        "o",
        "oooooooo0",
        "\u00e9",
        [True],
    ],
)
def test_run_lengths_that_do_not_fill_the_image_are_refused(tmp_path: Path, counts: object) -> None:
    file = write_set(tmp_path, annotation(33, segmentation={"size": [10, 12], "counts": counts}))
    with pytest.raises(DatasetError, match=r"image 7 \(a\.jpg\), but annotation 33: expected"):
        mask_of(file)


@pytest.mark.parametrize("seed", range(20))
def test_compressed_run_lengths_are_those_of_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 300, 2).tolist())
    mask = rng.random(shape) < rng.random() ** 3
    np.testing.assert_array_equal(read_mask({"segmentation": encode_mask(mask)}, *shape), mask)


@pytest.mark.parametrize(
    ("segmentation", "bbox"),
    [
        ([{"size": [10, 12], "counts": [23, 4, 6, 4, 6, 4, 6, 4, 6, 4, 6, 4, 6, 4, 33]}], None),
        ([[[2, 3], [9, 3], [9, 7], [2, 7]]], None),
        ([[2, 3], [9, 3], [9, 7], [2, 7]], None),
        ([2, 3, 9, 3, 9, 7, 2, 7], None),
        ([[2, 3, 7, 4]], None),
        ([2, 3, 7, 4], [2, 3, 7, 4]),
        ({"size": [10.0, "12"], "counts": encode_mask(square())["counts"]}, None),
    ],
)
def test_masks_in_other_writings_are_read(segmentation: object, bbox: object) -> None:
    record = {"segmentation": segmentation, "bbox": bbox}
    np.testing.assert_array_equal(read_mask(record, 10, 12), square())


@pytest.mark.parametrize(
    ("segmentation", "bbox"),
    [
        ([[2, 3, 9, 7]], [2, 3, 7, 4]),
        ([[2, 3]], None),
        ([[2, 3, 9, 3, 9, 7, 2]], None),
        ([[[2, 3, 1], [9, 3, 1]]], None),
    ],
)
def test_masks_that_enclose_nothing_or_lack_a_number_are_refused(segmentation: object, bbox: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        read_mask({"segmentation": segmentation, "bbox": bbox}, 10, 12)


def test_a_polygon_outside_the_image_is_a_doubt_that_names_the_image(tmp_path: Path) -> None:
    write_set(tmp_path, annotation(segmentation=[[20, 20, 30, 20, 30, 30]]))
    problems, doubts = examine_images(open_dataset(tmp_path)[0], 1)
    assert problems == []
    assert doubts == ["tagged, but the mask has no pixel of the class: a (cat)"]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (annotation(33, category_id=[1]), "annotation 33 of image 7: expected .* as category_id, found \\[1\\]"),
        (annotation(33, category_id=None), "annotation 33 of image 7: .* found null"),
        (annotation(33, image_id={}), "annotation 33: expected .* as image_id, found {}"),
        (annotation([1]), "annotation \\[1\\] of image 7: expected .* as id"),
        (annotation(33, score=None), "annotation 33 of image 7: expected a number from 0 to 1 as score, found null"),
        (annotation(33, score=95), "found 95"),
        (annotation(33, score="0.5"), 'found "0.5"'),
        (annotation(33, score=math.nan), "found NaN"),
        (annotation(33, iscrowd="yes"), "expected 0 or 1 as iscrowd"),
        (annotation(33, segmentation="text"), "expected polygons or run lengths as segmentation"),
        (annotation(math.inf), "expected .* as id, found Infinity"),
        (annotation(math.nan), "expected .* as id, found NaN"),
        (annotation(10**400), "expected .* as id, found 1000"),
        (annotation(33, category_id=-(10**30)), "expected .* as category_id, found -1000"),
        ({"id": 33}, "annotation 33: expected a value as image_id, there is no 'image_id'"),
        (5, "annotation number 0: expected an object, found 5"),
    ],
)
def test_a_field_of_another_type_is_refused_by_its_record(tmp_path: Path, record: Any, message: str) -> None:
    file = write_set(tmp_path, record)
    with pytest.raises(DatasetError, match=rf"instances_train\.json: .*{message}"):
        read_coco(file)


@pytest.mark.parametrize(
    "image",
    [{"file_name": None}, {"file_name": 5}, {"file_name": ""}, {"file_name": "\ud800.jpg"}, {"height": -1},
     {"width": 0}, {"height": 1e300}, {"height": "tall"}, {"width": [12]}, {"id": None}, {"height": 10**400}],
)  # fmt: skip
def test_an_image_record_with_a_bad_field_is_refused(tmp_path: Path, image: dict[str, Any]) -> None:
    with pytest.raises(DatasetError, match=r"instances_train\.json: image (7|number 0): expected"):
        open_dataset(write_set(tmp_path, annotation(), **image).parents[1])


@pytest.mark.parametrize("side", [640_000, 2**24])
def test_a_size_that_is_not_the_images_is_compared_before_memory_is_taken(tmp_path: Path, side: int) -> None:
    write_set(tmp_path, annotation(), height=side, width=side)
    (problem,) = check_images(open_dataset(tmp_path)[0], 1)
    assert f"is {side} x {side}, the image is 12 x 10" in problem.message
    with pytest.raises(ValueError, match="too large for this machine"):
        read_mask({"segmentation": SQUARE}, side, side)


def test_ids_and_sizes_as_text_or_with_a_point_are_numbers(tmp_path: Path) -> None:
    file = write_set(tmp_path, annotation("4", image_id="7", category_id=17.0), height="10", width=12.0)
    dataset, problems = open_dataset(tmp_path)
    assert problems == []
    assert dataset.samples[0].labels == (0,)
    np.testing.assert_array_equal(mask_of(file), square())


def test_ids_of_two_types_and_missing_ones_are_read(tmp_path: Path) -> None:
    lacking = annotation(segmentation=[[0, 0, 2, 0, 2, 2, 0, 2]])
    del lacking["id"]
    file = write_set(tmp_path, annotation("b"), annotation(5), lacking)
    assert len(read_annotations(CocoSource(file, 7, (17, 18)))) == 3
    content = json.loads(file.read_text())
    content["categories"][1]["id"] = "dogs"
    file.write_text(json.dumps(content))
    assert open_dataset(tmp_path)[0].classes.names == ("cat", "dog")


@pytest.mark.parametrize("lacking", ["segmentation", "height"])
@pytest.mark.parametrize("null", [True, False])
def test_boxes_alone_are_labels_without_ground_truth(tmp_path: Path, lacking: str, null: bool) -> None:
    file = write_set(tmp_path, annotation(bbox=[2, 3, 7, 4]))
    content = json.loads(file.read_text())
    (record,) = content["annotations" if lacking == "segmentation" else "images"]
    record[lacking] = None
    if not null:
        del record[lacking]
    file.write_text(json.dumps(content))
    dataset, problems = open_dataset(tmp_path)
    assert (problems, check_images(dataset, 1)) == ([], [])
    assert [(sample.labels, sample.coco) for sample in dataset.samples] == [((0,), None)]


def test_crowds_as_text_and_ignored_objects_are_void_or_not_as_written(tmp_path: Path) -> None:
    assert mask_of(write_set(tmp_path, annotation(iscrowd="0"))).max() == 1
    assert mask_of(write_set(tmp_path, annotation(iscrowd="1"))).max() == 255
    assert mask_of(write_set(tmp_path, annotation(ignore=1))).max() == 255


def test_a_category_id_that_comes_twice_is_refused(tmp_path: Path) -> None:
    file = write_set(tmp_path, annotation())
    file.write_text(file.read_text().replace('"id": 18', '"id": "17"'))
    with pytest.raises(DatasetError, match="expected a different id for each category, found 17 twice"):
        read_coco(file)


def test_json_with_a_byte_order_mark_is_read_and_nested_json_refused(tmp_path: Path) -> None:
    file = write_set(tmp_path, annotation())
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert read_coco(file).categories == {17: "cat", 18: "dog"}
    file.write_text('{"images": ' + NESTED)
    with pytest.raises(DatasetError, match="nested too deeply"):
        read_coco(file)


def test_exported_coco_has_what_importers_ask_for() -> None:
    content = coco_json([], [], ClassTable(("cat",)))
    assert content["info"]["version"]
    assert content["licenses"] == []
    assert content["categories"] == [{"id": 1, "name": "cat", "supercategory": ""}]
