"""COCO JSON, both ways, on literals."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from data.dataset import ClassTable, CocoSource, DatasetError, Sample
from data.formats import coco
from data.formats.coco import Detection, ImageInfo
from data.formats.images import read_image
from data.formats.label_maps import read_ground_truth

CLASSES = ClassTable(("cat", "dog"), (17, 18))


def box(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


def annotation(id: int, category: int, segmentation: object, image: int = 7, **more: object) -> dict[str, object]:
    return {"id": id, "image_id": image, "category_id": category, "segmentation": segmentation, **more}


def detection(image: str, number: int, mask: np.ndarray) -> Detection:
    return {"image": image, "class": number, "score": 0.5 + number / 4, "segmentation": coco.encode_mask(mask)}


def masks(shape: tuple[int, int], count: int) -> np.ndarray:
    return np.random.default_rng(1).random((count, *shape)) < 0.3


def write_coco(path: Path, annotations: list[dict[str, object]], height: int = 10, width: int = 12) -> Path:
    content = {
        "images": [{"id": 7, "file_name": "a.png", "height": height, "width": width}],
        "annotations": annotations,
        "categories": [{"id": 18, "name": "dog"}, {"id": 17, "name": "cat"}],
    }
    path.write_text(json.dumps(content))
    return path


def test_a_mask_comes_back() -> None:
    (mask,) = masks((11, 17), 1)
    encoded = coco.encode_mask(mask)
    assert encoded["size"] == [11, 17]
    assert json.loads(json.dumps(encoded)) == encoded
    np.testing.assert_array_equal(coco.decode_mask(encoded), mask)
    assert coco.decode_mask(encoded).dtype == bool


def test_exported_json_loads_in_pycocotools_with_the_same_masks(tmp_path: Path) -> None:
    first, second, third = masks((11, 17), 3)
    fourth = masks((5, 6), 1)[0]
    found = [
        detection("x/b", 1, first),
        detection("x/b", 0, second),
        detection("x/b", 1, third),
        detection("a", 0, fourth),
    ]
    images = [ImageInfo("a", "a.jpg", 5, 6), ImageInfo("x/b", "x/b.png", 11, 17), ImageInfo("c", "c.jpg", 3, 3)]
    path = tmp_path / "out.json"
    path.write_text(json.dumps(coco.coco_json(images, found, CLASSES)))

    loaded = COCO(str(path))
    assert sorted(loaded.anns) == [1, 2, 3, 4]
    assert [loaded.imgs[number]["file_name"] for number in (1, 2, 3)] == ["a.jpg", "x/b.png", "c.jpg"]
    assert [category["name"] for category in loaded.loadCats([17, 18])] == ["cat", "dog"]
    for record, given, mask in zip(loaded.loadAnns([1, 2, 3, 4]), found, (first, second, third, fourth), strict=True):
        np.testing.assert_array_equal(loaded.annToMask(record), mask)
        assert record["category_id"] == CLASSES.category_ids[given["class"]]
        assert record["image_id"] == {"a": 1, "x/b": 2}[given["image"]]
        assert record["score"] == given["score"]
        assert record["area"] == mask.sum()
        assert record["iscrowd"] == 0
        rows, columns = np.nonzero(mask)
        left, top, width, height = record["bbox"]
        assert (left, top) == (columns.min(), rows.min())
        assert (width, height) == (np.ptp(columns) + 1, np.ptp(rows) + 1)


def test_export_refuses_detections_that_fit_no_image() -> None:
    (mask,) = masks((4, 5), 1)
    with pytest.raises(ValueError, match="'b', which is not exported"):
        coco.coco_json([ImageInfo("a", "a.jpg", 4, 5)], [detection("b", 0, mask)], CLASSES)
    with pytest.raises(ValueError, match=r"a: the mask is \[4, 5\], the image \[5, 4\]"):
        coco.coco_json([ImageInfo("a", "a.jpg", 5, 4)], [detection("a", 0, mask)], CLASSES)


def test_detections_come_back(tmp_path: Path) -> None:
    found = [detection("x/b", 1, masks((3, 4), 1)[0]), detection("a", 0, masks((5, 4), 1)[0])]
    for records in (found, []):
        coco.write_detections(tmp_path / "instances.json", records)
        assert coco.read_detections(tmp_path / "instances.json") == records


@pytest.mark.parametrize(
    ("content", "message"),
    [('[{"image": "a"}]', "expected the fields"), ("{}", "expected a list"), ("[", "expected JSON"), (None, "no file")],
)
def test_other_files_are_no_detections(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "instances.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DatasetError, match=rf"instances\.json: .*{message}"):
        coco.read_detections(path)


def test_smaller_instances_lie_over_larger_ones_and_crowds_below_all() -> None:
    crowd = np.zeros((10, 12), bool)
    crowd[:, 8:] = True
    records = [
        annotation(1, 18, box(2, 2, 5, 5)),
        annotation(2, 17, box(0, 0, 10, 8)),
        annotation(3, 18, coco.encode_mask(crowd), iscrowd=1),
    ]
    semantic, instances = coco.rasterize(records, 10, 12, {17: 1, 18: 2})
    expected = np.zeros((10, 12), int)
    expected[:, 8:] = 255
    expected[:8, :10] = 1
    expected[2:5, 2:5] = 2
    np.testing.assert_array_equal(semantic, expected)
    np.testing.assert_array_equal(instances, expected)
    assert (semantic.dtype, instances.dtype) == (np.uint8, np.int32)
    for shuffled in (records[::-1], records[1:] + records[:1]):
        np.testing.assert_array_equal(coco.rasterize(shuffled, 10, 12, {17: 1, 18: 2})[1], instances)


def test_polygons_and_both_kinds_of_run_lengths_are_the_same_mask() -> None:
    mask = np.zeros((10, 12), bool)
    mask[3:7, 2:9] = True
    changes = np.flatnonzero(np.diff(np.r_[False, mask.T.ravel()]))
    plain = {"size": [10, 12], "counts": np.diff(np.r_[0, changes, mask.size]).tolist()}
    for segmentation in (box(2, 3, 9, 7), coco.encode_mask(mask), plain):
        semantic, _ = coco.rasterize([annotation(1, 17, segmentation)], 10, 12, {17: 1})
        np.testing.assert_array_equal(semantic, mask)


def test_polygons_that_enclose_nothing_and_other_categories_are_left_out() -> None:
    sliver = [[1, 1, 5, 5], *box(-9, 1, -5, 5)]
    records = [annotation(1, 17, sliver), annotation(2, 99, box(0, 0, 5, 5)), annotation(3, 17, [])]
    semantic, instances = coco.rasterize(records, 10, 12, {17: 1})
    assert not semantic.any()
    assert not instances.any()


def test_the_255th_instance_is_not_void() -> None:
    records = [annotation(id, 17, box(id % 20, id // 20, id % 20 + 1, id // 20 + 1)) for id in range(260)]
    _, instances = coco.rasterize(records, 20, 20, {17: 1})
    assert sorted(np.unique(instances)) == [number for number in range(262) if number != 255]


def test_ground_truth_comes_from_the_file_with_the_tables_values(tmp_path: Path) -> None:
    Image.new("RGB", (12, 10)).save(tmp_path / "a.png")
    file = write_coco(tmp_path / "set.json", [annotation(1, 18, box(0, 0, 3, 3))])
    sample = Sample("a", tmp_path / "a.png", (0,), coco=CocoSource(file, 7, (18, 17)))
    truth = read_ground_truth(sample)
    assert truth.semantic is not None
    assert truth.semantic[:3, :3].tolist() == [[1] * 3] * 3
    assert truth.semantic.sum() == 9


@pytest.mark.parametrize("orientation", [6, 8, 5, 7])
def test_masks_of_a_photograph_on_its_side_are_turned_with_it(tmp_path: Path, orientation: int) -> None:
    stored = np.zeros((10, 12, 3), np.uint8)
    stored[:3, :4] = 255
    tags = Image.Exif()
    tags[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "a.png", exif=tags)
    file = write_coco(tmp_path / "set.json", [annotation(1, 17, box(0, 0, 4, 3))])
    sample = Sample("a", tmp_path / "a.png", (0,), coco=CocoSource(file, 7, (17, 18)))
    truth = read_ground_truth(sample)
    with Image.open(sample.image) as image:
        assert image.size == (12, 10)
    np.testing.assert_array_equal(truth.semantic, read_image(sample.image)[..., 0] // 255)
    np.testing.assert_array_equal(truth.instances, truth.semantic)


def test_an_entry_of_another_size_than_its_image_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (12, 10)).save(tmp_path / "a.png")
    file = write_coco(tmp_path / "set.json", [], height=11)
    sample = Sample("a", tmp_path / "a.png", (), coco=CocoSource(file, 7, (17, 18)))
    with pytest.raises(DatasetError, match=r"a\.png: its entry in set\.json is 12 x 11, the image is 12 x 10"):
        read_ground_truth(sample)


@pytest.mark.parametrize(
    "segmentation",
    [{"size": [3, 3], "counts": [9]}, {"counts": [9]}, [["x"] * 6]],
)
def test_a_mask_that_cannot_be_read_is_named(tmp_path: Path, segmentation: object) -> None:
    file = write_coco(tmp_path / "set.json", [annotation(1, 17, segmentation)])
    with pytest.raises(DatasetError, match=r"set\.json: expected polygons or run lengths for image 7 \(a\.png\)"):
        coco.read_maps(CocoSource(file, 7, (17, 18)))


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    file = write_coco(tmp_path / "set.json", [])
    assert not coco.read_coco(file).annotations[7]
    write_coco(file, [annotation(1, 17, box(0, 0, 2, 2))])
    assert len(coco.read_coco(file).annotations[7]) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "there is no 'images'"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": []}', "there is no 'file_name'"),
        ("[]", "expected an object"),
        ("{", "expected JSON"),
    ],
)
def test_other_json_is_no_coco_file(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "set.json").write_text(content)
    with pytest.raises(DatasetError, match=rf"set\.json: .*{message}"):
        coco.read_coco(tmp_path / "set.json")


def test_image_ids_that_come_twice_are_refused(tmp_path: Path) -> None:
    image = {"id": 1, "file_name": "a.jpg", "height": 1, "width": 1}
    (tmp_path / "set.json").write_text(json.dumps({"images": [image] * 2, "annotations": [], "categories": []}))
    with pytest.raises(DatasetError, match="expected a different id for each image"):
        coco.read_coco(tmp_path / "set.json")
