"""Semantic scores against a count by hand."""

import json

import numpy as np
import pytest

from tasks.evaluation.semantic_metrics import confusion, iou, semantic_summary


def random_maps(seed: int, num_classes: int, shape: tuple[int, int] = (13, 17)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    values = np.array([*range(num_classes), 255], np.uint8)
    return rng.choice(values, shape), rng.choice(values, shape)


@pytest.mark.parametrize("num_classes", [1, 2, 6, 255])
def test_confusion_counts_every_pixel_that_is_not_void(num_classes: int) -> None:
    gt, pred = random_maps(0, num_classes)
    expected = np.zeros((num_classes, num_classes + 1), int)
    for true, guess in zip(gt.ravel().tolist(), pred.ravel().tolist(), strict=True):
        if true != 255:
            expected[true, num_classes if guess == 255 else guess] += 1
    np.testing.assert_array_equal(confusion(gt, pred, num_classes), expected)


def test_iou_of_a_set_is_that_of_its_pixels_as_sets() -> None:
    pairs = [random_maps(seed, 5) for seed in range(4)]
    counts = sum(confusion(gt, pred, 5) for gt, pred in pairs)
    scores = iou(counts)
    gt, pred = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1))
    counted = gt != 255
    expected = []
    for value in range(5):
        true, guess = counted & (gt == value), counted & (pred == value)
        expected.append((true & guess).sum() / (true | guess).sum())
    np.testing.assert_allclose(scores, expected)
    assert semantic_summary(counts, tuple("abcde"))["miou"] == pytest.approx(sum(expected) / 5)


def test_a_class_in_neither_map_is_nan_and_left_out_of_the_mean() -> None:
    gt = np.array([[0, 0, 1, 1]], np.uint8)
    pred = np.array([[0, 1, 1, 1]], np.uint8)
    counts = confusion(gt, pred, 3)
    np.testing.assert_allclose(iou(counts), [1 / 2, 2 / 3, np.nan])
    summary = semantic_summary(counts, ("background", "cat", "dog"))
    assert summary["miou"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert summary["iou"]["dog"] is None
    assert summary["accuracy"] == pytest.approx(3 / 4)
    assert json.loads(json.dumps(summary)) == summary


def test_a_class_that_is_only_predicted_counts_as_zero() -> None:
    counts = confusion(np.zeros((2, 2), np.uint8), np.array([[0, 0], [0, 1]], np.uint8), 2)
    assert semantic_summary(counts, ("background", "cat"))["miou"] == pytest.approx((3 / 4 + 0) / 2)


def test_void_in_the_prediction_is_a_miss_and_no_false_alarm() -> None:
    gt = np.array([[0, 0, 1, 1]], np.uint8)
    counts = confusion(gt, np.array([[0, 255, 255, 1]], np.uint8), 2)
    np.testing.assert_allclose(iou(counts), [1 / 2, 1 / 2])
    assert semantic_summary(counts, ("background", "cat"))["accuracy"] == 0.5


def test_nothing_to_score_gives_none() -> None:
    void = np.full((3, 3), 255, np.uint8)
    summary = semantic_summary(confusion(void, void, 2), ("background", "cat"))
    none = {"background": None, "cat": None}
    means = {"miou": None, "accuracy": None, "class_accuracy": None}
    assert summary == {**means, "iou": none, "accuracy_per_class": none}


def test_the_accuracies_are_of_all_pixels_and_the_mean_of_each_true_classs() -> None:
    gt = np.array([[0, 0, 0, 0, 1, 1, 255, 3]], np.uint8)
    pred = np.array([[0, 0, 0, 2, 1, 0, 0, 255]], np.uint8)
    summary = semantic_summary(confusion(gt, pred, 4), tuple("abcd"))
    assert summary["accuracy"] == pytest.approx(4 / 7)
    assert summary["accuracy_per_class"] == {"a": 0.75, "b": 0.5, "c": None, "d": 0.0}
    assert summary["class_accuracy"] == pytest.approx((0.75 + 0.5 + 0.0) / 3)


def test_values_outside_the_class_table_are_refused_even_under_void() -> None:
    inside = np.array([[0, 1, 255]], np.uint8)
    outside = np.array([[0, 1, 7]], np.uint8)
    with pytest.raises(ValueError, match=r"ground truth holds \[7\]"):
        confusion(outside, inside, 3)
    with pytest.raises(ValueError, match=r"prediction holds \[7\]"):
        confusion(inside, outside, 3)


def test_maps_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="one size"):
        confusion(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), 2)
