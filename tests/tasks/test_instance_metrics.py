"""Instance scores against a plain matcher that walks over the whole set, as VOC's development kit does."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tasks.evaluation.instance_metrics import (
    InstanceRecords,
    InstanceScore,
    add_records,
    average_precision,
    match_image,
    mean_precision,
    touching,
)

NUM_CLASSES = 3
NAMES = ("cat", "dog", "owl")


class Scene(NamedTuple):
    masks: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    semantic: np.ndarray
    instances: np.ndarray

    def match(self) -> InstanceRecords:
        return match_image(*self, num_classes=NUM_CLASSES)


def random_scene(rng: np.random.Generator, num_objects: int, num_detections: int) -> Scene:
    """Strips of objects with gaps in their ids and some void; detections are strips near them, or noise."""
    height, width = 12, 6 * max(num_objects, 1)
    instances = np.zeros((height, width), np.int32)
    kinds = rng.integers(1, NUM_CLASSES + 1, num_objects)
    semantic = np.zeros((height, width), np.uint8)
    for index in range(num_objects):
        box = np.s_[2:10, 6 * index : 6 * index + 5]
        # Ids over 255 occur in COCO files.
        instances[box] = (3 * index + 1) if index % 2 else (300 + index)
        semantic[box] = kinds[index]
    void = rng.random((height, width)) < 0.05
    instances[void] = 255
    semantic[void] = 255
    masks = np.zeros((num_detections, height, width), bool)
    classes = rng.integers(0, NUM_CLASSES, num_detections)
    for index in range(num_detections):
        target = int(rng.integers(max(num_objects, 1)))
        top, left = 2 + int(rng.integers(-1, 2)), 6 * target + int(rng.integers(-1, 2))
        masks[index, top : top + 8, max(left, 0) : left + 5] = True
        masks[index] ^= rng.random((height, width)) < 0.05
        if num_objects and rng.random() < 0.8:
            classes[index] = kinds[target] - 1
    # Few levels, so that equal scores occur.
    return Scene(masks, classes, rng.integers(1, 6, num_detections) / 5, semantic, instances)


def brute_force_ap(scenes: list[Scene], cls: int, threshold: float) -> float | None:
    """Greedy matching over the whole set, then the largest precision at each recall or beyond."""
    objects, detections = [], []
    for number, scene in enumerate(scenes):
        valid = scene.instances != 255
        for value in sorted(set(scene.instances.ravel().tolist()) - {0, 255}):
            mask = scene.instances == value
            values = scene.semantic[mask].tolist()
            if max(set(values), key=values.count) == cls + 1:
                objects.append({"image": number, "mask": mask, "free": True})
        for mask, kind, score in zip(scene.masks, scene.classes, scene.scores, strict=True):
            if kind == cls and (mask & valid).any():
                detections.append((score, number, mask & valid))
    if not objects:
        return None
    curve, hits = [], 0
    for rank, (_, number, mask) in enumerate(sorted(detections, key=lambda d: -d[0]), start=1):
        overlaps = [
            ((o["mask"] & mask).sum() / (o["mask"] | mask).sum(), o)
            for o in objects
            if o["image"] == number and o["free"]
        ]
        overlap, best = max(overlaps, key=lambda pair: pair[0], default=(0, None))
        if best is not None and overlap >= threshold:
            best["free"] = False
            hits += 1
        curve.append((hits / len(objects), hits / rank))
    area, last = 0.0, 0.0
    for position, (recall, _) in enumerate(curve):
        area += (recall - last) * max(precision for _, precision in curve[position:])
        last = recall
    return area


def score_of(*scenes: Scene) -> InstanceScore:
    return average_precision(add_records(scene.match() for scene in scenes), NAMES)


def block_scene(*detections: tuple[slice, int, float], objects: dict[int, slice]) -> Scene:
    """A row of 20 pixels: objects of class 0 by id, detections as (columns, class, score)."""
    instances = np.zeros((1, 20), np.uint8)
    for value, columns in objects.items():
        instances[0, columns] = value
    masks = np.zeros((len(detections), 1, 20), bool)
    for mask, (columns, _, _) in zip(masks, detections, strict=True):
        mask[0, columns] = True
    semantic = np.where(instances == 255, 255, instances > 0).astype(np.uint8)
    classes = np.array([d[1] for d in detections], int)
    return Scene(masks, classes, np.array([d[2] for d in detections], float), semantic, instances)


@pytest.mark.parametrize("seed", range(6))
def test_average_precision_equals_a_greedy_pass_over_the_whole_set(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scenes = [random_scene(rng, int(rng.integers(0, 5)), int(rng.integers(0, 9))) for _ in range(8)]
    score = score_of(*scenes)
    seen_partial = False
    for key, threshold in (("ap50", 0.5), ("ap70", 0.7)):
        expected = {name: brute_force_ap(scenes, cls, threshold) for cls, name in enumerate(NAMES)}
        assert {name: score["per_class"][name][key] for name in NAMES} == pytest.approx(expected)
        known = [value for value in expected.values() if value is not None]
        assert score[key] == pytest.approx(np.mean(known))
        seen_partial |= any(0.05 < value < 0.95 for value in known)
    assert seen_partial, "the case is too easy to tell right from wrong"


def test_equal_scores_are_ranked_by_their_images_in_whatever_order_these_come() -> None:
    rng = np.random.default_rng(3)
    scenes = [random_scene(rng, 3, 5) for _ in range(8)]
    records = [match_image(*scene, num_classes=NUM_CLASSES, image=f"{n}") for n, scene in enumerate(scenes)]
    in_order = average_precision(add_records(records), NAMES)
    assert in_order == score_of(*scenes)
    differs = False
    for shuffled in (records[::-1], [*records[4:], *records[:4]], [records[n] for n in rng.permutation(8)]):
        # As shards, which images come to by chance.
        shards = [add_records(shuffled[:3]), add_records(shuffled[3:])]
        assert average_precision(add_records(shards), NAMES) == in_order
        nameless = [record._replace(images=np.zeros(0, np.str_)) for record in shuffled]
        differs |= average_precision(add_records(nameless), NAMES) != in_order
    assert differs, "no order of the images matters here"


def test_records_add_up_over_shards_and_survive_a_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    records = [random_scene(rng, 3, 5).match() for _ in range(6)]
    shards = [add_records(records[:2]), add_records(records[2:])]
    restored = []
    for number, shard in enumerate(shards):
        np.savez(tmp_path / f"{number}.npz", **shard._asdict())
        with np.load(tmp_path / f"{number}.npz", allow_pickle=False) as arrays:
            restored.append(InstanceRecords(**arrays))
    whole = average_precision(add_records(records), NAMES)
    assert average_precision(add_records(restored), NAMES) == whole
    assert json.loads(json.dumps(whole)) == whole


def test_a_perfect_detection_scores_one_and_thresholds_differ() -> None:
    exact = block_scene((np.s_[0:10], 0, 0.9), objects={1: np.s_[0:10]})
    assert score_of(exact)["ap50"] == score_of(exact)["ap70"] == 1
    loose = block_scene((np.s_[0:6], 0, 0.9), objects={1: np.s_[0:10]})
    assert (score_of(loose)["ap50"], score_of(loose)["ap70"]) == (1, 0)


def test_an_overlap_of_exactly_the_threshold_counts() -> None:
    assert score_of(block_scene((np.s_[0:5], 0, 0.9), objects={1: np.s_[0:10]}))["ap50"] == 1
    assert score_of(block_scene((np.s_[0:7], 0, 0.9), objects={1: np.s_[0:10]}))["ap70"] == 1


def test_a_second_detection_of_an_object_is_a_false_positive() -> None:
    objects = {1: np.s_[0:8], 2: np.s_[10:18]}
    doubled = block_scene((np.s_[0:8], 0, 0.9), (np.s_[0:7], 0, 0.8), (np.s_[10:18], 0, 0.7), objects=objects)
    np.testing.assert_array_equal(doubled.match().hits[:, 0], [True, False, True])
    # Recall 1/2 at precision 1, then recall 1 at precision 2/3.
    assert score_of(doubled)["ap50"] == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_the_surer_detection_takes_the_object_and_the_first_of_equals() -> None:
    later = block_scene((np.s_[0:8], 0, 0.5), (np.s_[0:7], 0, 0.9), objects={1: np.s_[0:8]})
    np.testing.assert_array_equal(later.match().hits[:, 0], [False, True])
    equal = block_scene((np.s_[0:7], 0, 0.5), (np.s_[0:8], 0, 0.5), objects={1: np.s_[0:8]})
    np.testing.assert_array_equal(equal.match().hits[:, 0], [True, False])


def test_a_detection_of_another_class_or_in_another_image_does_not_match() -> None:
    wrong_class = block_scene((np.s_[0:8], 1, 0.9), objects={1: np.s_[0:8]})
    assert not wrong_class.match().hits.any()
    elsewhere = block_scene((np.s_[0:8], 0, 0.9), objects={})
    missed = block_scene(objects={1: np.s_[0:8]})
    assert score_of(elsewhere, missed)["ap50"] == 0


def test_void_is_taken_out_of_detections_and_drops_those_inside_it() -> None:
    objects = {1: np.s_[0:4], 255: np.s_[4:12]}
    scene = block_scene((np.s_[0:12], 0, 0.5), (np.s_[5:11], 0, 0.9), objects=objects)
    records = scene.match()
    np.testing.assert_array_equal(records.hits, [[True, True]])
    np.testing.assert_array_equal(records.scores, [0.5])


def test_no_detections_score_zero_and_no_ground_truth_scores_none() -> None:
    missed = score_of(block_scene(objects={1: np.s_[0:8]}))
    assert (missed["ap50"], missed["per_class"]["cat"]["gt"]) == (0, 1)
    assert missed["per_class"]["dog"] == {"ap50": None, "ap70": None, "gt": 0}
    nothing = score_of(block_scene((np.s_[0:8], 0, 0.9), objects={}))
    assert (nothing["ap50"], nothing["ap70"]) == (None, None)


def test_most_of_an_objects_pixels_decide_its_class() -> None:
    scene = block_scene((np.s_[0:9], 1, 0.9), objects={1: np.s_[0:9]})
    scene.semantic[0, 0:3] = 1
    scene.semantic[0, 3:8] = 2
    assert scene.match().hits.all()
    np.testing.assert_array_equal(scene.match().num_gt, [0, 1, 0])


def test_what_does_not_fit_together_is_refused() -> None:
    scene = block_scene((np.s_[0:8], 0, 0.9), objects={1: np.s_[0:8]})
    with pytest.raises(ValueError, match="expected N masks"):
        scene._replace(masks=scene.masks[:, :, :19]).match()
    with pytest.raises(ValueError, match="expected N masks"):
        scene._replace(scores=np.array([0.1, 0.2])).match()
    with pytest.raises(ValueError, match=r"expected classes from 0 to 2, got \[3\]"):
        scene._replace(classes=np.array([3])).match()
    with pytest.raises(ValueError, match=r"expected classes from 0 to 2, got \[8\]"):
        scene._replace(semantic=scene.semantic * 9).match()
    with pytest.raises(ValueError, match=r"none under the ids \[1\]"):
        scene._replace(semantic=scene.semantic * 0).match()
    with pytest.raises(ValueError, match="one size"):
        touching(scene.semantic[:, :19], scene.instances)


def brute_force_touching(semantic: np.ndarray, instances: np.ndarray, reach: int) -> bool:
    points = [(y, x) for y, x in np.argwhere(instances).tolist() if instances[y, x] != 255]
    return any(
        instances[a] != instances[b] and semantic[a] == semantic[b] and max(abs(a[0] - b[0]), abs(a[1] - b[1])) <= reach
        for a in points
        for b in points
    )


@pytest.mark.parametrize("seed", range(12))
def test_touching_equals_a_look_at_all_pairs_of_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    instances = np.zeros((14, 14), np.uint8)
    for value in (1, 2, 3, 255):
        y, x = rng.integers(0, 12, 2)
        instances[y : y + 3, x : x + 3] = value
    semantic = np.array([0, 1, 1, 2, *[0] * 251, 255], np.uint8)[instances]
    for reach in (1, 2, 4):
        assert touching(semantic, instances, reach_px=reach) == brute_force_touching(semantic, instances, reach)


@pytest.mark.parametrize(("gap", "expected"), [(0, True), (1, True), (2, False)])
@pytest.mark.parametrize("axis", [0, 1])
def test_touching_reaches_two_pixels(gap: int, expected: bool, axis: int) -> None:
    instances = np.zeros((1, 12), np.uint8)
    instances[:, 1:5] = 1
    instances[:, 5 + gap : 9 + gap] = 2
    instances = instances.T if axis else instances
    assert touching((instances > 0).astype(np.uint8), instances) is expected
    assert not touching(instances, instances), "objects of two classes do not count"


def test_an_image_without_objects_has_none_that_touch() -> None:
    assert not touching(np.zeros((5, 5), np.uint8), np.zeros((5, 5), np.uint8))


def test_void_stays_in_a_detection_by_the_authors_rule() -> None:
    instances = np.full((40, 40), 255, np.int32)
    instances[10:30, 10:30] = 1
    instances[:5], instances[35:], instances[:, :5], instances[:, 35:] = 0, 0, 0, 0
    semantic = np.where(instances == 1, 2, instances).astype(np.uint8)
    # The object with its ring, whose plain IoU is 400 / 900; and a piece of the ring alone.
    masks = np.stack([(instances == 1) | (instances == 255), np.zeros_like(instances, bool)])
    masks[1, 5:9, 5:35] = True
    arguments = (masks, np.array([1, 1]), np.array([0.9, 0.8]), semantic, instances)
    kind = match_image(*arguments, num_classes=NUM_CLASSES)
    assert kind.hits.tolist() == [[True, True]]
    plain = match_image(*arguments, num_classes=NUM_CLASSES, void="predicted")
    assert plain.hits.tolist() == [[False, False], [False, False]]
    assert plain.scores.tolist() == [0.9, 0.8]
    assert plain.num_gt.tolist() == kind.num_gt.tolist() == [0, 1, 0]
    assert mean_precision([kind], NAMES) == {"ap50": 1.0, "ap70": 1.0}
    assert mean_precision([plain], NAMES) == {"ap50": 0.0, "ap70": 0.0}
    # Without void the rules are one.
    masks = arguments[0] & (instances != 255)
    plain = match_image(masks, *arguments[1:], num_classes=NUM_CLASSES, void="predicted")
    assert plain.hits.tolist() == [[True, True]]
