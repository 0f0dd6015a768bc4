"""The boundary F1 against squares shifted by hand, and a count over all pairs of contour pixels."""

import json
import math

import numpy as np
import pytest

from tasks.evaluation.boundary_metric import add_sums, boundary_summary, boundary_sums

NAMES = ("background", "cat", "dog", "owl")


def square(shape: tuple[int, int], shift: int, value: int = 1) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    labels[40:60, 40 + shift : 60 + shift] = value
    return labels


def score(gt: np.ndarray, pred: np.ndarray) -> float | None:
    return boundary_summary(boundary_sums(gt, pred, len(NAMES)), NAMES)["boundary_f"]


def per_class(gt: np.ndarray, pred: np.ndarray) -> dict[str, float | None]:
    return boundary_summary(boundary_sums(gt, pred, len(NAMES)), NAMES)["per_class"]


def contour_by_hand(labels: np.ndarray, value: int) -> list[tuple[int, int]]:
    height, width = labels.shape
    contour = []
    for y, x in np.argwhere(labels == value).tolist():
        around = [(y + dy, x + dx) for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0))]
        inside = [labels[a, b] for a, b in around if 0 <= a < height and 0 <= b < width]
        if any(other not in (value, 255) for other in inside):
            contour.append((y, x))
    return contour


def score_by_hand(gt: np.ndarray, pred: np.ndarray) -> dict[int, float]:
    pred = np.where(gt == 255, 255, pred)
    tolerance = 0.0075 * math.hypot(*gt.shape)
    scores = {}
    for value in sorted(set(gt.ravel().tolist()) - {255}):
        true, found = contour_by_hand(gt, value), contour_by_hand(pred, value)
        if not true and not found:
            continue
        near = np.array([[math.dist(a, b) < tolerance for b in true] for a in found]).reshape(len(found), len(true))
        precision = near.any(axis=1).mean() if found else 0
        recall = near.any(axis=0).mean() if true else 0
        scores[value] = 2 * precision * recall / (precision + recall) if precision + recall else 0
    return scores


@pytest.mark.parametrize(
    ("shape", "last_shift"),
    [((90, 120), 1), ((120, 160), 1), ((180, 240), 2), ((240, 320), 2), ((247, 320), 3)],
    ids=["1.125 px", "1.5 px", "2.25 px", "3 px", "3.03 px"],
)
@pytest.mark.parametrize("shift", [1, 2, 3])
def test_a_shift_shorter_than_the_tolerance_costs_nothing(shape: tuple[int, int], last_shift: int, shift: int) -> None:
    found = score(square(shape, 0), square(shape, shift))
    assert found is not None
    assert (found == 1) == (shift <= last_shift)
    turned = score(square(shape[::-1], 0).T, square(shape[::-1], shift).T)
    assert (turned == 1) == (shift <= last_shift)


def test_a_shift_of_exactly_the_tolerance_misses_what_only_moved_sideways() -> None:
    # The tolerance is 3 px. Of the cat's 76 contour pixels, 20 of the one side and 14 of the other have moved
    # away from all others; of the background's 80 it is 20 and 16.
    found = per_class(square((240, 320), 0), square((240, 320), 3))
    assert found == pytest.approx({"background": 44 / 80, "cat": 42 / 76, "dog": None, "owl": None})
    assert score(square((240, 320), 0), square((240, 320), 3)) == pytest.approx((44 / 80 + 42 / 76) / 2)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("void", [False, True])
def test_scores_equal_a_count_over_all_pairs_of_contour_pixels(seed: int, void: bool) -> None:
    # Long and narrow: a tolerance of 1.5 to 2.4 pixels on few pixels.
    rng = np.random.default_rng(seed)
    width = int(rng.integers(200, 320))
    gt = np.kron(rng.integers(0, 3, (2, width)), np.ones((4, 15), int))[:, :width].astype(np.uint8)
    pred = np.roll(gt, int(rng.integers(2, 5)), axis=1)
    noisy = rng.random(gt.shape) < 0.03
    pred[noisy] = rng.integers(0, 4, noisy.sum())
    if void:
        gt[:, 30:50] = gt[2:5, ::9] = 255
        pred[1, 60:90] = 255
    expected = score_by_hand(gt, pred)
    assert score(gt, pred) == pytest.approx(np.mean(list(expected.values())))
    assert per_class(gt, pred) == pytest.approx({name: expected.get(value) for value, name in enumerate(NAMES)})
    assert 0.1 < np.mean(list(expected.values())) < 0.95, "the case is too easy to tell right from wrong"


def test_a_class_that_only_the_prediction_has_is_left_out_and_costs_its_neighbours() -> None:
    gt, pred = square((100, 120), 0), square((100, 120), 0)
    pred[5:10, 5:10] = 2
    found = per_class(gt, pred)
    assert (found["cat"], found["dog"]) == (1, None)
    # Around the dog 20 background pixels are no true contour; 80 are.
    assert found["background"] == pytest.approx(2 * 0.8 / 1.8)


def test_a_true_class_without_predicted_contour_scores_zero() -> None:
    gt = square((100, 120), 0)
    assert per_class(gt, np.zeros_like(gt)) == {"background": 0, "cat": 0, "dog": None, "owl": None}
    assert per_class(np.zeros_like(gt), gt) == {"background": 0, "cat": None, "dog": None, "owl": None}


def test_the_border_of_the_image_is_no_contour() -> None:
    whole = np.ones((100, 120), np.uint8)
    assert score(whole, whole) is None
    gt, pred = np.zeros((2, 100, 120), np.uint8)
    gt[:, :60], pred[:, :61] = 1, 1
    # A border that counted would match and hide the shift, which the tolerance of 1.17 px covers.
    assert score(gt, pred) == 1
    pred[:, :62] = 1
    assert score(gt, pred) == 0


def test_a_contour_pixel_may_match_several() -> None:
    """Thin stripes beside a border have more contours than the truth, all within the tolerance: nothing is lost."""
    truth = np.zeros((360, 480), np.uint8)
    truth[:, 240:] = 1
    striped = truth.copy()
    striped[:, [237, 239]], striped[:, [241, 243]] = 1, 0
    assert boundary_summary(boundary_sums(truth, striped, 2), ("a", "b"))["boundary_f"] == 1


def test_void_makes_no_contour_and_hides_predictions() -> None:
    gt, pred = square((100, 120), 0), square((100, 120), 0)
    gt[:30] = 255
    assert score(gt, pred) == 1
    pred[5:25, 5:25] = 3
    assert score(gt, pred) == 1
    pred[60:90, 100:] = 255
    assert score(gt, pred) == 1


def test_an_image_of_void_counts_for_nothing() -> None:
    void, gt = np.full((100, 120), 255, np.uint8), square((100, 120), 0)
    assert score(void, gt) is None
    assert score(void, void) is None
    missed = boundary_sums(gt, void, len(NAMES))
    sums = add_sums([boundary_sums(void, gt, len(NAMES)), boundary_sums(gt, gt, len(NAMES)), missed])
    summary = boundary_summary(sums, NAMES)
    assert summary == {"boundary_f": 0.5, "per_class": {"background": 0.5, "cat": 0.5, "dog": None, "owl": None}}
    assert json.loads(json.dumps(summary)) == summary


def test_sums_of_shards_give_the_mean_over_images_not_over_shards_or_classes() -> None:
    gt = square((100, 120), 0)
    three = square((100, 120), 0)
    three[5:10, 5:10] = 2
    without = three.copy()
    without[without == 2] = 0
    sums = [boundary_sums(*pair, len(NAMES)) for pair in ((gt, gt), (three, without), (gt, 0 * gt))]
    # The dog is missed, and with it 20 of the background's 100 contour pixels.
    second = (1 + 0 + 2 * 0.8 / 1.8) / 3
    for parts in (sums, [add_sums(sums[:1]), add_sums(sums[1:])]):
        assert boundary_summary(add_sums(parts), NAMES)["boundary_f"] == pytest.approx((1 + second + 0) / 3)


def test_maps_that_do_not_fit_are_refused() -> None:
    labels = np.zeros((4, 5), np.uint8)
    with pytest.raises(ValueError, match="one size"):
        boundary_sums(labels, labels[:, :4], 2)
    with pytest.raises(ValueError, match=r"prediction holds \[7\]"):
        boundary_sums(labels, labels + 7, 2)
    with pytest.raises(ValueError, match=r"ground truth holds \[7\]"):
        boundary_sums(labels + 7, labels, 2)
