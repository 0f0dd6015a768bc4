"""Scoring of label maps and detections that lie anywhere."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.dataset import ClassTable, DatasetError
from data.formats.coco import Detection, ImageInfo, coco_json, encode_mask
from data.formats.label_folder import index_files
from data.formats.label_maps import GroundTruth, write_label_map
from data.formats.voc import VOC_CLASSES
from tasks.evaluation.folders import evaluate_instances, evaluate_saliency, evaluate_semantic
from tasks.pipeline.scores import _match

CLASSES = ("cat", "dog")
SIZE = (4, 6)


def label_map(*columns: int) -> np.ndarray:
    """Return a map [4, 6] with the given value in each column."""
    return np.tile(np.array(columns, np.uint8), (SIZE[0], 1))


def write_maps(folder: Path, kind: str, maps: dict[str, np.ndarray], classes: tuple[str, ...] = CLASSES) -> Path:
    for image, values in maps.items():
        write_label_map(folder / kind / f"{image}.png", values)
    if classes:
        (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
    return folder


def write_objects(folder: Path, semantic: dict[str, np.ndarray], instances: dict[str, np.ndarray]) -> Path:
    write_maps(folder, "SegmentationClass", semantic)
    return write_maps(folder, "SegmentationObject", instances)


def write_coco(path: Path, masks: list[tuple[str, int, float, np.ndarray]], images: list[str], **table: tuple) -> Path:
    detections = [
        Detection(image=i, **{"class": c}, score=score, segmentation=encode_mask(m)) for i, c, score, m in masks
    ]
    infos = [ImageInfo(image, f"JPEGImages/{image}.jpg", *SIZE) for image in images]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(coco_json(infos, detections, ClassTable(table.get("names", CLASSES)))))
    return path


# Two cats side by side, and a dog: columns 0-1, 2-3 and 4.
OBJECTS = {"a": label_map(1, 1, 1, 1, 2, 0)}
IDS = {"a": label_map(1, 1, 2, 2, 3, 0)}


def test_semantic_scores_are_those_counted_by_hand(tmp_path: Path):
    gt = write_maps(
        tmp_path / "gt", "SegmentationClass", {"a": label_map(0, 0, 1, 1, 255, 255), "x/b": label_map(*[2] * 6)}
    )
    pred = write_maps(
        tmp_path / "pred", "", {"a": label_map(0, 1, 1, 1, 2, 0), "x/b": label_map(*[2] * 6), "c": label_map(*[1] * 6)}
    )
    found = evaluate_semantic(pred, gt)
    assert found["iou"] == pytest.approx({"background": 1 / 2, "cat": 2 / 3, "dog": 1})
    assert found["miou"] == pytest.approx((1 / 2 + 2 / 3 + 1) / 3)
    assert found["accuracy"] == pytest.approx(9 / 10)
    assert (found["images"], found["ignored"]) == (2, 1)


def test_ground_truth_of_void_alone_is_refused(tmp_path: Path) -> None:
    for table in ("classes.txt", "values.txt"):
        gt = write_maps(tmp_path / table, "SegmentationClass", {"a": label_map(*[255] * 6)}, ())
        (gt / table).write_text("cat\ndog\n")
        pred = write_maps(tmp_path / f"pred-{table}", "", {"a": label_map(*[1] * 6)}, ())
        with pytest.raises(DatasetError, match=r"only 0 and 255|found void alone"):
            evaluate_semantic(pred, gt, gt / table)


def test_a_run_is_found_by_its_labels(tmp_path: Path):
    gt = write_maps(tmp_path / "gt", "SegmentationClass", {"a": label_map(*[1] * 6)})
    write_maps(tmp_path / "run/labels", "SegmentationClass", {"a": label_map(*[1] * 6)})
    assert evaluate_semantic(tmp_path / "run", gt)["miou"] == 1


def test_all_that_is_wrong_is_listed_at_once(tmp_path: Path):
    whole = label_map(*[1] * 6)
    gt = write_maps(tmp_path / "gt", "", dict.fromkeys(("missing", "small", "strange", "fine"), whole))
    pred = write_maps(tmp_path / "pred", "", {"small": whole[:, :5], "strange": label_map(*[7] * 6), "fine": whole})
    with pytest.raises(DatasetError) as error:
        evaluate_semantic(pred, gt)
    assert [problem.sample for problem in error.value.problems] == ["missing", "small", "strange"]
    text = str(error.value)
    assert "found none" in text
    assert "(4, 6)" in text
    assert "[7]" in text


def test_class_names_come_from_a_file_given_then_from_beside_then_from_voc(tmp_path: Path):
    whole = {"a": label_map(*[2] * 6)}
    pred, gt = tmp_path / "pred/deep/er", tmp_path / "gt/deep/er"
    for folder in (pred, gt):
        write_maps(folder, "", whole, classes=())
    assert evaluate_semantic(pred, gt)["iou"][VOC_CLASSES[1]] == 1
    (tmp_path / "gt/classes.txt").write_text("cat\ndog\n")
    assert evaluate_semantic(pred, gt)["iou"] == {"background": None, "cat": None, "dog": 1.0}
    (tmp_path / "given.txt").write_text("one\ntwo\n")
    assert evaluate_semantic(pred, gt, tmp_path / "given.txt")["iou"]["two"] == 1


def test_the_class_table_of_a_run_lies_with_its_label_maps(tmp_path: Path):
    maps = {"a": np.array([[0, 1], [2, 2]], np.uint8)}
    write_maps(tmp_path / "run/labels", "SegmentationClass", maps, ())
    (tmp_path / "run/labels/classes.txt").write_text("big, red: thing/x\nother\n")
    for pred, gt in ((tmp_path / "run", tmp_path / "run"), (tmp_path / "run/labels", tmp_path / "run")):
        found = evaluate_semantic(pred, gt)
        assert found["iou"] == {"background": 1, "big, red: thing/x": 1, "other": 1}
        assert found["classes"] == f"the names in {tmp_path / 'run/labels/classes.txt'}"
    # A table above the run is not the run's.
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert "other" in evaluate_semantic(tmp_path / "run", tmp_path / "run")["iou"]
    (tmp_path / "classes.txt").unlink()
    write_maps(tmp_path / "bare", "SegmentationClass", maps, ())
    assert evaluate_semantic(tmp_path / "bare", tmp_path / "bare")["classes"].startswith("VOC's 20 classes, since no")


def test_a_scenes_folder_says_that_it_has_no_background(tmp_path: Path):
    write_maps(tmp_path / "gt", "", {"a": label_map(0, 0, 0, 1, 1, 255)}, classes=())
    pred = write_maps(tmp_path / "pred", "", {"a": label_map(0, 0, 0, 1, 0, 0)}, classes=())
    for name, text in index_files([], None, ClassTable(("road", "sky"), has_background=False)).items():
        (pred / name).write_text(text)
    found = evaluate_semantic(pred, tmp_path / "gt")
    assert found["iou"] == {"road": 0.75, "sky": 0.5}
    # As CamVid has void: it is no class.
    write_maps(tmp_path / "coded", "", {"a": label_map(0, 0, 0, 1, 1, 11)}, classes=())
    with pytest.raises(DatasetError, match="predict --evaluate"):
        evaluate_semantic(pred, tmp_path / "coded")


def test_values_beyond_voc_without_a_table_ask_for_one(tmp_path: Path):
    for folder in ("pred", "gt"):
        write_maps(tmp_path / folder, "", {"a": label_map(*[21] * 6)}, classes=())
    with pytest.raises(DatasetError, match=r"no classes.txt was found.*--classes"):
        evaluate_semantic(tmp_path / "pred", tmp_path / "gt")


def test_two_tables_that_disagree_are_refused_unless_one_is_named(tmp_path: Path):
    whole = {"a": label_map(*[1] * 6)}
    gt = write_maps(tmp_path / "gt", "", whole, classes=("cat", "dog"))
    pred = write_maps(tmp_path / "pred", "", whole, classes=("dog", "cat"))
    with pytest.raises(DatasetError, match="--classes"):
        evaluate_semantic(pred, gt)
    assert evaluate_semantic(pred, gt, gt / "classes.txt")["miou"] == 1


def test_an_empty_folder_is_refused(tmp_path: Path):
    with pytest.raises(DatasetError, match="expected label maps"):
        evaluate_semantic(tmp_path, tmp_path)
    with pytest.raises(DatasetError, match="found none"):
        evaluate_semantic(tmp_path / "nowhere", tmp_path)


def test_instances_of_a_folder_count_with_their_majority_class(tmp_path: Path):
    gt = write_objects(tmp_path / "gt", OBJECTS, IDS)
    assert evaluate_instances(gt, gt)["ap70"] == 1
    merged = write_objects(tmp_path / "pred", OBJECTS, {"a": label_map(1, 1, 1, 1, 3, 0)})
    found = evaluate_instances(merged, gt)
    # The merged cat has an IoU of exactly 0.5 with either cat: one of two found.
    assert found["per_class"]["cat"] == {"ap50": 0.5, "ap70": 0, "gt": 2}
    assert found["ap50"] == pytest.approx(0.75)


def test_scores_of_coco_json_rank_the_detections(tmp_path: Path):
    gt = write_objects(tmp_path / "gt", OBJECTS, IDS)
    right, wrong = IDS["a"] == 3, IDS["a"] == 1
    aps = []
    for name, scores in (("good", (0.9, 0.2)), ("bad", (0.2, 0.9))):
        detections = [("a", 1, scores[0], right), ("a", 1, scores[1], wrong)]
        path = write_coco(tmp_path / name / "instances.json", detections, ["a"])
        aps.append(evaluate_instances(path, gt)["per_class"]["dog"]["ap50"])
    assert aps == [1.0, 0.5]


def test_overlapping_detections_keep_their_whole_masks(tmp_path: Path):
    gt = write_objects(tmp_path / "gt", OBJECTS, IDS)
    both = [
        ("a", 0, 0.9, IDS["a"] == 1),
        ("a", 0, 0.8, (IDS["a"] == 1) | (IDS["a"] == 2)),
        ("a", 0, 0.7, IDS["a"] == 2),
    ]
    path = write_coco(tmp_path / "pred.json", both, ["a"])
    # Hits at ranks 1 and 2 at IoU 0.5; ranks 1 and 3 at 0.7.
    assert evaluate_instances(path, gt)["per_class"]["cat"] == pytest.approx(
        {"ap50": 1, "ap70": (1 + 2 / 3) / 2, "gt": 2}
    )


def test_coco_ground_truth_matches_by_file_name_and_class_name(tmp_path: Path):
    masks = [("a", int(OBJECTS["a"][IDS["a"] == n][0]) - 1, 1.0, IDS["a"] == n) for n in (1, 2, 3)]
    gt = write_coco(tmp_path / "gt/gt.json", masks, ["a"])
    swapped = [(image, 1 - kind, score, mask) for image, kind, score, mask in masks]
    pred = write_coco(tmp_path / "pred/pred.json", swapped, ["a"], names=("dog", "cat"))
    assert evaluate_instances(pred, gt)["per_class"]["cat"] == {"ap50": 1.0, "ap70": 1.0, "gt": 2}


def test_a_category_outside_the_table_and_a_missing_image_are_listed(tmp_path: Path):
    gt = write_objects(tmp_path / "gt", {"a": OBJECTS["a"], "b": OBJECTS["a"]}, {"a": IDS["a"], "b": IDS["a"]})
    path = write_coco(tmp_path / "pred.json", [("a", 0, 1.0, IDS["a"] == 1)], ["a"], names=("zebra",))
    with pytest.raises(DatasetError) as error:
        evaluate_instances(path, gt)
    assert {problem.sample for problem in error.value.problems} == {"a", "b"}
    assert "zebra" in str(error.value)


def test_an_object_without_a_class_is_refused(tmp_path: Path):
    gt = write_objects(tmp_path / "gt", OBJECTS, IDS)
    pred = write_objects(tmp_path / "pred", {"a": label_map(1, 1, 0, 0, 0, 0)}, {"a": label_map(1, 1, 2, 2, 0, 0)})
    with pytest.raises(DatasetError, match=r"ids \[2\]"):
        evaluate_instances(pred, gt)


def test_an_image_without_detections_counts_its_objects(tmp_path: Path):
    gt = write_objects(tmp_path / "gt", OBJECTS, IDS)
    found = evaluate_instances(write_coco(tmp_path / "pred.json", [], ["a"]), gt)
    assert (found["ap50"], found["images"]) == (0, 1)


def results(*records: tuple[object, object, float, np.ndarray]) -> str:
    """Return COCO's list of results: image id, category id, score, mask."""
    names = ("image_id", "category_id", "score", "segmentation")
    return json.dumps([dict(zip(names, (*r[:3], encode_mask(r[3])), strict=True)) for r in records])


def test_a_list_of_results_is_scored_by_the_ids_of_the_truth(tmp_path: Path):
    cat, dog = OBJECTS["a"] == 1, OBJECTS["a"] == 2
    gt = write_coco(tmp_path / "gt.json", [("a", 0, 1, cat), ("b.0001", 1, 1, dog)], ["a", "b.0001"])
    pred = tmp_path / "results.json"
    pred.write_text(results((1, 1, 0.9, cat), ("2", "2", 0.4, dog), (9, 1, 0.4, dog)))
    found = evaluate_instances(pred, gt)
    assert (found["ap50"], found["coco"]["ap"]) == pytest.approx((1, 1))
    assert (found["images"], found["ignored"]) == (2, 1)
    pred.write_text(results((1, 2, 0.9, cat)))
    assert evaluate_instances(pred, gt)["ap50"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": None}, "result .* of image 1: expected a number from 0 to 1 as score, found null"),
        ({"score": 17}, "found 17"),
        ({"category_id": 5}, "category 5"),
        ({"image_id": 77}, "expected results of the images of"),
        ({"segmentation": None, "bbox": [0, 0, 2, 2]}, "expected a segmentation, found none"),
        ({"segmentation": {"size": [4, 6], "counts": []}}, "annotation 1: expected run lengths"),
    ],
)
def test_results_that_cannot_be_scored_are_refused(tmp_path: Path, change: dict, message: str):
    cat = OBJECTS["a"] == 1
    gt = write_coco(tmp_path / "gt.json", [("a", 0, 1, cat)], ["a"])
    (record,) = json.loads(results((1, 1, 0.9, cat)))
    (tmp_path / "results.json").write_text(json.dumps([{**record, **change}]))
    with pytest.raises(DatasetError, match=rf"results\.json: .*{message}"):
        evaluate_instances(tmp_path / "results.json", gt)


def test_results_need_ground_truth_with_ids(tmp_path: Path):
    gt = write_objects(tmp_path / "gt", OBJECTS, IDS)
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(DatasetError, match=r"results\.json: .*a list of results"):
        evaluate_instances(tmp_path / "results.json", gt)


def test_a_mask_of_the_truth_that_cannot_be_read_names_its_file(tmp_path: Path):
    cat = OBJECTS["a"] == 1
    pred, gt = (write_coco(tmp_path / name, [("a", 0, 1, cat)], ["a"]) for name in ("pred.json", "gt.json"))
    content = json.loads(gt.read_text())
    content["annotations"][0]["segmentation"]["counts"] = []
    gt.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"gt\.json: .*annotation 1: expected run lengths"):
        evaluate_instances(pred, gt)


CAMVID_LABELS = np.array([[0, 0, 3, 3, 8, 11]] * 4, np.uint8)


def write_scenes(root: Path, images: tuple[str, ...] = ("a", "b")) -> Path:
    """Write a set in CamVid's layout: sky, road, a car, and void, which is 11."""
    for image in images:
        for folder in ("test", "testannot"):
            write_label_map(root / folder / f"{image}.png", CAMVID_LABELS, grey=True)
    return root


def test_a_set_of_scenes_is_read_as_it_is_coded(tmp_path: Path):
    root = write_scenes(tmp_path / "set")
    found = evaluate_semantic(root / "testannot", root / "testannot")
    assert {name: score for name, score in found["iou"].items() if score is not None} == {"sky": 1, "road": 1, "car": 1}
    # Void is no class: what is predicted there counts for nothing.
    wrong = np.where(CAMVID_LABELS == 11, 0, CAMVID_LABELS)
    other = write_maps(tmp_path / "other", "", {"a": wrong, "b": np.where(wrong == 8, 3, wrong)}, classes=())
    for gt in (root, root / "testannot"):
        found = evaluate_semantic(other, gt)
        assert found["iou"]["road"] == pytest.approx(16 / 20)
        assert found["iou"]["car"] == pytest.approx(4 / 8)
        assert found["accuracy"] == pytest.approx(36 / 40)
    names = "".join(f"class {number}\n" for number in range(11))
    (tmp_path / "names.txt").write_text(names)
    given = evaluate_semantic(other, root, tmp_path / "names.txt")
    assert list(given["iou"]) == names.splitlines()
    assert given["iou"]["class 3"] == found["iou"]["road"]
    (other / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(DatasetError, match="expected one class table"):
        evaluate_semantic(other, root)


def test_a_table_called_values_has_no_background(tmp_path: Path):
    folder = write_maps(tmp_path / "maps", "", {"a": label_map(0, 0, 0, 1, 1, 255)}, classes=())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/values.txt").write_text("road\nsky\n")
    found = evaluate_semantic(folder, folder, tmp_path / "elsewhere/values.txt")
    assert found["iou"] == {"road": 1.0, "sky": 1.0}


def test_a_training_is_scored_by_its_predictions(tmp_path: Path):
    root = write_scenes(tmp_path / "set")
    maps = {image: np.where(CAMVID_LABELS == 11, 0, CAMVID_LABELS) for image in ("a", "b")}
    write_maps(tmp_path / "net/predictions", "SegmentationClass", maps, classes=())
    table = ClassTable(tuple(evaluate_semantic(root, root)["iou"]), has_background=False)
    for name, text in index_files([], None, table).items():
        (tmp_path / "net/predictions" / name).write_text(text)
    found = evaluate_semantic(tmp_path / "net", root / "testannot")
    assert found == evaluate_semantic(tmp_path / "net/predictions", root)
    assert (found["miou"], found["iou"]["sky"], found["images"]) == (1, 1, 2)


def test_a_list_says_which_images_are_scored(tmp_path: Path):
    maps = {"a": label_map(*[1] * 6), "b": label_map(*[2] * 6)}
    gt = write_objects(tmp_path / "gt", maps, {"a": label_map(*[1] * 6), "b": label_map(*[1] * 6)})
    (gt / "ImageSets/Segmentation").mkdir(parents=True)
    (gt / "ImageSets/Segmentation/val.txt").write_text("b\n")
    (tmp_path / "some.txt").write_text("b.png\n")
    pred = write_objects(tmp_path / "pred", {"b": maps["b"]}, {"b": label_map(*[1] * 6)})
    for split in ("val", tmp_path / "some.txt"):
        for truth in (gt, gt / "SegmentationClass"):
            assert evaluate_semantic(pred, truth, split=split)["images"] == 1
        found = evaluate_instances(pred, gt, split=split)
        assert (found["images"], found["ap50"]) == (1, 1)
    with pytest.raises(DatasetError, match="expected one prediction for the image 'a'"):
        evaluate_semantic(pred, gt)
    scenes = write_scenes(tmp_path / "set")
    other = write_maps(tmp_path / "other", "", {"b": np.where(CAMVID_LABELS == 11, 0, CAMVID_LABELS)}, classes=())
    assert evaluate_semantic(other, scenes, split=tmp_path / "some.txt")["images"] == 1
    with pytest.raises(DatasetError, match="expected one prediction for the image 'a'"):
        evaluate_semantic(other, scenes, split="test")
    with pytest.raises(DatasetError, match="one of the set's lists: test"):
        evaluate_semantic(other, scenes, split="train")
    (tmp_path / "none.txt").write_text("\n")
    for truth in (gt, scenes):
        with pytest.raises(DatasetError, match=r"none\.txt: expected the name of an image per line, found an empty"):
            evaluate_semantic(pred, truth, split=tmp_path / "none.txt")


def test_categories_of_one_name_are_refused_unless_one_alone_is_used(tmp_path: Path):
    masks = [("a", 0, 0.9, OBJECTS["a"] == 1), ("a", 1, 0.9, OBJECTS["a"] == 2)]
    pred = write_coco(tmp_path / "pred.json", masks[:1], ["a"])
    gt = write_coco(tmp_path / "gt.json", masks[:1], ["a"], names=("cat", "cat"))
    # Some tools write a category of the set's name that has no object.
    assert evaluate_instances(pred, gt)["ap50"] == 1.0
    gt = write_coco(tmp_path / "gt.json", masks, ["a"], names=("cat", "cat"))
    for one, other in ((pred, gt), (gt, pred)):
        with pytest.raises(DatasetError, match="expected one category of each name, found annotations of 2 called"):
            evaluate_instances(one, other)


def test_names_in_another_unicode_form_are_the_same(tmp_path: Path):
    composed, apart = "caf\u00e9", "cafe\u0301"
    pred = write_coco(tmp_path / "pred.json", [(apart, 0, 0.9, OBJECTS["a"] == 1)], [apart], names=(apart,))
    gt = write_coco(tmp_path / "gt.json", [(composed, 0, 0.9, OBJECTS["a"] == 1)], [composed], names=(composed,))
    assert evaluate_instances(pred, gt)["ap50"] == 1.0
    pred = write_maps(tmp_path / "pred", "", {f"x/{apart}": OBJECTS["a"]})
    gt = write_maps(tmp_path / "gt", "", {composed: OBJECTS["a"]})
    assert evaluate_semantic(pred, gt)["miou"] == 1.0


def test_ground_truth_without_an_image_is_refused(tmp_path: Path):
    pred = write_coco(tmp_path / "pred.json", [("a", 0, 0.9, OBJECTS["a"] == 1)], ["a"])
    gt = write_coco(tmp_path / "gt.json", [], [])
    with pytest.raises(DatasetError, match=r"gt.json: expected images to compare, found none"):
        evaluate_instances(pred, gt)


def test_a_label_map_that_cannot_be_opened_is_not_left_out(tmp_path: Path):
    pred, gt = (write_maps(tmp_path / name, "", {"a": OBJECTS["a"], "b": OBJECTS["a"]}) for name in ("pred", "gt"))
    (gt / "b.png").unlink()
    (gt / "b.png").symlink_to("away.png")
    with pytest.raises(DatasetError, match=r"b.png: expected a label map, found no file"):
        evaluate_semantic(pred, gt)


def test_maps_of_saliency_are_scored_against_masks(tmp_path: Path):
    masks = {"a": label_map(*[255] * 3, 0, 0, 0), "b": label_map(*[0] * 5, 255)}
    for image, mask in masks.items():
        write_label_map(tmp_path / "set/images" / f"{image}.png", mask, grey=True)
        write_label_map(tmp_path / "set/ground_truth_mask" / f"{image}.png", mask, grey=True)
        write_label_map(tmp_path / "masks" / f"{image}.png", mask // 255, grey=True)
    found = {"a": label_map(255, 255, 204, 204, 0, 0), "b": label_map(*[0] * 5, 255), "c": label_map(*[0] * 6)}
    for image, values in found.items():
        write_label_map(tmp_path / "net/predictions/Saliency" / f"{image}.png", values, grey=True)
    for pred in (tmp_path / "net", tmp_path / "net/predictions/Saliency"):
        for gt in (tmp_path / "set", tmp_path / "masks"):
            result = evaluate_saliency(pred, gt)
            assert result["mae"] == pytest.approx((0.2 + 0.8) / 6 / 2)
            # At 204: precision (3/4 + 1) / 2, recall 1. At 255: precision 1, recall (2/3 + 1) / 2.
            assert result["max_f"] == pytest.approx(max(1.3 * 7 / 8 / (0.3 * 7 / 8 + 1), 1.3 * 5 / 6 / (0.3 + 5 / 6)))
            assert (result["images"], result["ignored"]) == (2, 1)
    (tmp_path / "some.txt").write_text("b\n")
    result = evaluate_saliency(tmp_path / "net", tmp_path / "set", tmp_path / "some.txt")
    assert (result["images"], result["mae"], result["max_f"]) == (1, 0, 1)
    write_label_map(tmp_path / "net/predictions/Saliency/b.png", found["b"][:2], grey=True)
    with pytest.raises(DatasetError, match=r"b\.png: expected maps of one size"):
        evaluate_saliency(tmp_path / "net", tmp_path / "set")
    # A map that hardly finds anything is one of a network that is sure of that, beside one that reaches 255.
    write_label_map(tmp_path / "net/predictions/Saliency/b.png", found["b"] // 255, grey=True)
    assert evaluate_saliency(tmp_path / "net", tmp_path / "set")["mae"] > 0.1
    write_label_map(tmp_path / "net/predictions/Saliency/a.png", found["a"] // 255, grey=True)
    with pytest.raises(DatasetError, match=r"a\.png: expected a map from 0 to 255, found only 0 and 1"):
        evaluate_saliency(tmp_path / "net", tmp_path / "set")
    # The folder's maps tell how it is coded, those that are not scored too.
    write_label_map(tmp_path / "net/predictions/Saliency/c.png", found["a"], grey=True)
    (tmp_path / "net/predictions/Saliency/d.png").write_bytes(b"no picture")
    assert evaluate_saliency(tmp_path / "net", tmp_path / "set")["ignored"] == 2
    write_label_map(tmp_path / "net/predictions/Saliency/c.png", found["a"] // 255, grey=True)
    with pytest.raises(DatasetError, match=r"a\.png: expected a map from 0 to 255, found only 0 and 1 in all maps"):
        evaluate_saliency(tmp_path / "net", tmp_path / "set")
    # Black maps are ones of a network that finds nothing.
    for image in found:
        write_label_map(tmp_path / "net/predictions/Saliency" / f"{image}.png", 0 * found["a"], grey=True)
    assert evaluate_saliency(tmp_path / "net", tmp_path / "set")["mae"] == pytest.approx((0.5 + 1 / 6) / 2)
    with pytest.raises(DatasetError, match="expected masks of salient objects, found label maps of a set of scenes"):
        evaluate_saliency(tmp_path / "net", write_scenes(tmp_path / "scenes"))


def test_void_counts_in_what_is_scored_as_the_authors_do(tmp_path: Path) -> None:
    instances = np.zeros((40, 40), np.uint8)
    instances[5:35, 5:35] = 255
    instances[10:30, 10:30] = 1
    semantic = np.where(instances == 255, 255, instances).astype(np.uint8)
    gt = write_objects(tmp_path / "gt", {"a": semantic}, {"a": instances})
    # The object with its ring of void: 400 of 900 pixels.
    found = (instances > 0).astype(np.uint8)
    pred = write_objects(tmp_path / "pred", {"a": found}, {"a": found})
    scores = evaluate_instances(pred, gt)
    assert scores["ap50"] == 1
    assert scores["chainercv"]["ap50"] == 0
    detection: Any = {"image": "a", "class": 0, "score": 1.0, "segmentation": encode_mask(found > 0)}
    records: Any = defaultdict(list)
    _match(iter(()), [detection], GroundTruth(semantic, instances), (0,), 2, records)
    hits = {name: bool(parts[0].hits[0, 0]) for name, parts in records.items()}
    assert hits == {"labels": True, "chainercv/labels": False}
