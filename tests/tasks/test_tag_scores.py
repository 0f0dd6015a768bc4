"""A classifier is scored on images that it has not learned from, and one at chance is known as such."""

import numpy as np
import pytest

from data.dataset import ClassTable
from tasks.evaluation.tag_scores import alike_groups, average_precision, hold_out, score_in_folds, score_tags, verdict

CLASSES = ClassTable(("cat", "dog", "cow"))


def random_targets(num_images: int, shares: tuple[float, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((num_images, len(shares))) < shares


def test_average_precision_is_the_mean_precision_at_the_ranks_of_the_tagged() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.1])
    assert average_precision(scores, np.array([True, False, True, False])) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(scores, np.array([True, True, False, False])) == 1
    assert average_precision(scores, np.zeros(4, bool)) is None
    assert average_precision(scores, np.ones(4, bool)) is None


def test_equal_scores_are_no_success() -> None:
    assert average_precision(np.zeros(4), np.array([True, False, False, False])) == 0.25


def test_a_classifier_that_knows_the_tags_is_not_at_chance_and_one_that_does_not_is() -> None:
    targets = random_targets(60, (0.3, 0.5, 0.2))
    rng = np.random.default_rng(1)
    good = score_tags(targets + rng.normal(0, 0.3, targets.shape), targets, CLASSES, seed=0)
    assert good["mean_ap"] > 0.9
    assert good["chance"] < 0.01
    assert set(good["ap"]) == set(CLASSES.names)
    bad = [score_tags(rng.normal(size=targets.shape), targets, CLASSES, seed=0) for _ in range(20)]
    assert sum(found["chance"] > 0.02 for found in bad) >= 18
    assert bad[0]["share"]["dog"] == pytest.approx(targets[:, 1].mean(), abs=1e-4)


def test_few_images_give_no_verdict_and_classes_without_both_kinds_no_precision() -> None:
    found = score_tags(np.eye(3), np.eye(3, dtype=bool), CLASSES, seed=0)
    assert found["chance"] is None
    assert score_tags(np.eye(3), np.zeros((3, 3), bool), CLASSES, seed=0)["mean_ap"] is None


@pytest.mark.parametrize("shares", [(0.5, 0.5, 0.5), (0.9, 0.1, 0.05), (0.05, 0.05, 0.05)])
def test_a_tenth_is_held_out_of_every_class_and_most_of_each_stays(shares: tuple[float, ...]) -> None:
    targets = random_targets(300, shares)
    apart = hold_out(targets, 0.1, seed=0)
    assert 20 <= len(apart) <= 45
    assert np.array_equal(apart, np.unique(apart))
    counts, held = targets.sum(axis=0), targets[apart].sum(axis=0)
    assert (held >= 1).all()
    assert (held <= counts / 3).all()
    assert not np.array_equal(apart, hold_out(targets, 0.1, seed=1))


def test_a_class_of_one_or_two_images_keeps_them() -> None:
    targets = np.zeros((200, 2), bool)
    targets[:2, 0], targets[2:, 1] = True, True
    assert not np.isin([0, 1], hold_out(targets, 0.1, seed=0)).any()


def test_random_tags_cannot_be_told_from_features_in_folds() -> None:
    verdicts = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        features, targets = rng.normal(size=(60, 30)), random_targets(60, (0.3, 0.3, 0.3), seed)
        verdicts.append(score_tags(score_in_folds(features, targets, 0), targets, CLASSES, seed=0)["chance"] > 0.02)
        features[:, :3] += 6 * targets
        assert score_tags(score_in_folds(features, targets, 0), targets, CLASSES, seed=0)["chance"] < 0.02
    assert sum(verdicts) >= 18


def test_the_scores_of_a_fold_do_not_depend_on_its_own_tags() -> None:
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(30, 8)), random_targets(30, (0.4, 0.5))
    other = targets.copy()
    other[7] = ~other[7]
    found, changed = (score_in_folds(features, each, 0) for each in (targets, other))
    np.testing.assert_array_equal(found[7], changed[7])
    assert not np.array_equal(found, changed)


@pytest.mark.parametrize("tagged", [1, 2, 28, 29])
def test_where_perfect_scores_would_not_stand_out_there_is_no_verdict(tagged: int) -> None:
    targets = (np.arange(30) < tagged)[:, None]
    found = score_tags(targets.astype(float), targets, ClassTable(("cat",)), seed=0)
    assert found["mean_ap"] == 1
    assert found["chance"] is None or found["chance"] < 0.02


def test_copies_do_not_vouch_for_their_tags() -> None:
    verdicts = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        sources, wrong = rng.normal(size=(18, 40)), np.eye(3, dtype=bool)[rng.permutation(18) % 3]
        frames, targets = np.repeat(sources, 3, axis=0), np.repeat(wrong, 3, axis=0)
        frames += 0.1 * rng.normal(size=frames.shape)
        groups = alike_groups(frames, targets)
        np.testing.assert_array_equal(groups, np.repeat(np.arange(18), 3))
        # Without groups they do.
        assert score_tags(score_in_folds(frames, targets, 0), targets, CLASSES, seed=0)["chance"] < 0.02
        found = score_tags(score_in_folds(frames, targets, 0, groups), targets, CLASSES, 0, groups)
        assert (found["images"], found["judged"], found["alike"]) == (54, 18, 1.0)
        verdicts.append(found["chance"] > 0.02)
        # Right tags are told.
        frames[:, :3] += 6 * targets
        found = score_tags(score_in_folds(frames, targets, 0, groups), targets, CLASSES, 0, groups)
        assert found["chance"] < 0.02
    assert sum(verdicts) >= 9


def test_classes_whose_images_are_alike_by_nature_are_judged_by_image() -> None:
    rng = np.random.default_rng(0)
    targets = np.eye(3, dtype=bool)[np.arange(30) % 3]
    features = 20 * targets @ rng.normal(size=(3, 40)) + 0.1 * rng.normal(size=(30, 40))
    np.testing.assert_array_equal(alike_groups(features, targets), np.arange(30))


def test_held_out_images_leave_doubt_where_images_are_alike() -> None:
    held_out, folds = {"chance": 0.002, "images": 20}, {"chance": 0.4, "images": 200, "judged": 30, "alike": 0.9}
    assert verdict(held_out, folds) == {"chance": 0.4, "judged": 30, "alike": 0.9}
    assert verdict(held_out, folds | {"alike": 0.1}) == {"chance": 0.002, "judged": 20, "alike": 0.1}


def test_equal_images_know_nothing_of_their_tags() -> None:
    targets = random_targets(30, (0.3, 0.4))
    assert len(np.unique(score_in_folds(np.ones((30, 12)), targets, 0))) == 1


@pytest.mark.parametrize(
    ("held_out", "folds", "expected"),
    [(0.018, 0.4, (0.4, 200)), (0.002, 0.4, (0.002, 20)), (0.3, None, (0.3, 20)), (None, 0.01, (0.01, 200))],
)
def test_few_held_out_images_count_alone_only_beyond_doubt(
    held_out: float | None, folds: float | None, expected: tuple[float, int]
) -> None:
    others = None if folds is None else {"chance": folds, "images": 200}
    found = verdict({"chance": held_out, "images": 20}, others)
    assert (found["chance"], found["judged"]) == expected
