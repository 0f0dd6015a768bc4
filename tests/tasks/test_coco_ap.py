"""COCO AP of arrays and folders against pycocotools on the exported files."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from data.dataset import ClassTable
from data.formats.coco import Detection, ImageInfo, coco_json, encode_mask
from data.formats.label_maps import write_label_map
from tasks.evaluation.coco_ap import coco_average_precision
from tasks.evaluation.folders import evaluate_instances

CLASSES = ClassTable(("cat", "dog", "owl"))
SIZE = (32, 48)
IMAGES = [ImageInfo(name, f"{name}.jpg", *SIZE) for name in ("a", "b", "c", "d")]


def box(top: int, left: int, height: int = 10, width: int = 10) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[top : top + height, left : left + width] = True
    return mask


def record(image: str, index: int, score: float, mask: np.ndarray, *, crowd: bool = False) -> Detection:
    return Detection(
        {"image": image, "class": index, "score": score, "segmentation": encode_mask(mask), "crowd": crowd}
    )


def random_set(seed: int) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], list[Detection]]:
    """Semantic and instance maps of each image, boxes with some void; detections near the objects, or anywhere."""
    rng = np.random.default_rng(seed)
    maps, detections = {}, []
    for info in IMAGES:
        semantic, instances = np.zeros((2, *SIZE), np.uint8)
        for number, (top, left) in enumerate([(3, 2), (4, 18), (17, 10), (18, 32)], start=1):
            kind = int(rng.integers(0, 2))
            semantic[box(top, left)], instances[box(top, left)] = kind + 1, number
            for _ in range(int(rng.integers(0, 3))):
                dy, dx = rng.integers(-1, 2, 2)
                found = box(top + dy, left + dx) ^ (rng.random(SIZE) < 0.005)
                found_kind = kind if rng.random() < 0.8 else 2
                detections.append(record(info.id, found_kind, float(rng.integers(1, 60)) / 60, found))
        void = box(2, 30, 16, 18)
        semantic[void] = instances[void] = 255
        detections.append(record(info.id, 0, float(rng.random()), box(4, 33)))
        maps[info.id] = semantic, instances
    return maps, detections


def objects_of(maps: dict[str, tuple[np.ndarray, np.ndarray]]) -> list[Detection]:
    found = []
    for image, (semantic, instances) in maps.items():
        for number in sorted(set(instances.ravel().tolist()) - {0, 255}):
            mask = instances == number
            found.append(record(image, int(semantic[mask][0]) - 1, 1, mask))
        found += [record(image, index, 1, instances == 255, crowd=True) for index in range(3)]
    return found


def write(path: Path, records: list[Detection]) -> Path:
    path.write_text(json.dumps(coco_json(IMAGES, records, CLASSES)))
    return path


def pycocotools_on_files(gt: Path, pred: Path) -> dict[str, float]:
    truth = COCO(str(gt))
    evaluation = COCOeval(truth, truth.loadRes(json.loads(pred.read_text())["annotations"]), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return dict(zip(("ap", "ap50", "ap75"), evaluation.stats[:3], strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_scores_equal_pycocotools_on_the_exported_files(seed: int, tmp_path: Path) -> None:
    maps, detections = random_set(seed)
    gt, pred = write(tmp_path / "gt.json", objects_of(maps)), write(tmp_path / "pred.json", detections)
    expected = pycocotools_on_files(gt, pred)
    assert 0.05 < min(expected.values()) <= max(expected.values()) < 0.99, (
        "the case is too easy to tell right from wrong"
    )
    assert evaluate_instances(pred, gt)["coco"] == pytest.approx(expected)

    for image, (semantic, instances) in maps.items():
        write_label_map(tmp_path / "maps/SegmentationClass" / f"{image}.png", semantic)
        write_label_map(tmp_path / "maps/SegmentationObject" / f"{image}.png", instances)
    (tmp_path / "maps/classes.txt").write_text("cat\ndog\nowl\n")
    assert evaluate_instances(pred, tmp_path / "maps")["coco"] == pytest.approx(expected)


def test_overlapping_objects_and_the_crowds_of_one_class_are_taken_as_the_file_has_them(tmp_path: Path) -> None:
    objects = [record("a", 0, 1, box(2, 2, 20, 20)), record("a", 1, 1, box(8, 8)), record("a", 0, 1, box(2, 30))]
    crowd = record("b", 0, 1, box(0, 0, 30, 30), crowd=True)
    # The large cat would lose a quarter of its pixels to the dog if they were painted into one map.
    found = [record("a", 0, 0.9, box(2, 2, 20, 20)), record("a", 1, 0.8, box(8, 8))]
    inside = [record("b", 0, 1.0, box(3, 3)), record("b", 1, 0.7, box(3, 3))]
    gt, pred = write(tmp_path / "gt.json", [*objects, crowd]), write(tmp_path / "pred.json", [*found, *inside])
    score = evaluate_instances(pred, gt)["coco"]
    assert score == pytest.approx(pycocotools_on_files(gt, pred))
    # The dog, and one of two cats: recalls 0, 0.01, ..., 0.5 at precision 1.
    assert score["ap"] == pytest.approx((51 / 101 + 1) / 2)


def test_of_two_categories_each_goes_by_its_name(tmp_path: Path) -> None:
    gt = write(tmp_path / "gt.json", [record("a", 0, 1, box(2, 2)), record("a", 2, 1, box(15, 20))])
    (tmp_path / "classes.txt").write_text("owl\ncat\n")
    found = [record("a", 0, 0.9, box(2, 2)), record("a", 2, 0.8, box(15, 20))]
    assert evaluate_instances(write(tmp_path / "pred.json", found), gt)["coco"]["ap"] == pytest.approx(1)


def test_each_threshold_is_read_from_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    truth = coco_json(IMAGES, [record("a", 0, 1, box(0, 0, 10, 20))], CLASSES)
    for covered, expected in ((10, (0.1, 1, 0)), (15, (0.6, 1, 1)), (9, (0, 0, 0)), (20, (1, 1, 1))):
        found = coco_json(IMAGES, [record("a", 0, 0.5, box(0, 0, 10, covered))], CLASSES)
        score = coco_average_precision(truth, found)
        assert (score["ap"], score["ap50"], score["ap75"]) == pytest.approx(expected)
    assert capsys.readouterr().out == ""


def test_no_detections_score_zero_and_no_ground_truth_scores_none() -> None:
    found, nothing = [record("a", 0, 1, box(0, 0))], coco_json(IMAGES, [], CLASSES)
    assert coco_average_precision(coco_json(IMAGES, found, CLASSES), nothing) == {"ap": 0, "ap50": 0, "ap75": 0}
    none = {"ap": None, "ap50": None, "ap75": None}
    assert coco_average_precision(nothing, coco_json(IMAGES, found, CLASSES)) == none


def test_what_is_scored_is_not_changed() -> None:
    content = coco_json(IMAGES, [record("a", 0, 1, box(0, 0))], CLASSES)
    before = json.dumps(content)
    coco_average_precision(content, content)
    assert json.dumps(content) == before
