"""What a person changed, laid over the labels before, gives the labels after: every pixel and every instance."""

import numpy as np
import pytest
from support.hard_labels import partition

from data.dataset import VOID
from data.exchange.changes import find_change
from data.exchange.pixels import Pixels
from data.store.corrections import UNCHANGED, Correction, Record, apply_corrections

NAMES = {0: "background", 1: "dog", 2: "sofa", 3: "cat", VOID: "void"}
VALUES = {"dog": 1, "sofa": 2, "cat": 3}


def applied(before: Pixels, after: Pixels) -> Pixels:
    """Return the labels before with the change laid over them."""
    change = find_change(before, after, NAMES.__getitem__)
    if change is None:
        return before
    record = Record("a", "a" * 64, "Ada", "2026-01-01T00:00:00+00:00", classes=change.classes)
    assert before.objects is not None
    maps = before.semantic.astype(np.uint8), before.objects.astype(np.uint16)
    return Pixels(*apply_corrections(*maps, [Correction(record, change.semantic, change.instances)], VALUES))


def check(before: Pixels, after: Pixels) -> None:
    found = applied(before, after)
    np.testing.assert_array_equal(found.semantic, after.semantic)
    assert partition(found.objects) == partition(after.objects)


def boxes(*rectangles: tuple[slice, slice, int, int]) -> Pixels:
    """Return an image of 8 x 10 with rectangles of a class and an object."""
    semantic, objects = np.zeros((8, 10), np.int64), np.zeros((8, 10), np.int64)
    for rows, columns, value, object in rectangles:
        semantic[rows, columns], objects[rows, columns] = value, object
    return Pixels(semantic, objects)


ALL, LEFT, RIGHT = slice(2, 6), slice(1, 4), slice(4, 8)


def test_an_instance_of_another_class_does_not_join_the_one_that_it_touches() -> None:
    before = boxes((ALL, LEFT, 1, 1), (ALL, RIGHT, 2, 2))
    check(before, boxes((ALL, LEFT, 2, 1), (ALL, RIGHT, 2, 2)))


def test_pixels_that_keep_their_class_may_leave_their_instance() -> None:
    check(boxes((ALL, LEFT, 1, 1)), boxes((ALL, LEFT, 1, 1), (ALL, slice(1, 2), 1, 0)))
    check(boxes((ALL, LEFT, 1, 1)), boxes((ALL, LEFT, 1, 0)))


def test_new_pixels_of_no_instance_stay_so_beside_one_of_their_class() -> None:
    check(boxes((ALL, LEFT, 1, 1)), boxes((ALL, LEFT, 1, 1), (ALL, RIGHT, 1, 0)))


def test_numbers_of_instances_mean_nothing() -> None:
    before = boxes((ALL, LEFT, 1, 1), (ALL, RIGHT, 1, 2))
    assert find_change(before, boxes((ALL, LEFT, 1, 255), (ALL, RIGHT, 1, 9_000_000)), NAMES.__getitem__) is None


def test_an_instance_that_nobody_touched_is_not_written_anew() -> None:
    before = boxes((ALL, LEFT, 1, 1), (ALL, RIGHT, 1, 2))
    change = find_change(before, boxes((ALL, LEFT, 1, 7), (ALL, RIGHT, 3, 8)), NAMES.__getitem__)
    assert change is not None
    assert change.semantic is not None
    assert change.instances is not None
    assert change.classes == ("cat",)
    assert (change.semantic[:, LEFT] == UNCHANGED).all()
    assert (change.instances[:, LEFT] == UNCHANGED).all()


def test_a_format_without_instances_changes_classes_alone() -> None:
    before = boxes((ALL, LEFT, 1, 1))
    assert find_change(before, Pixels(before.semantic, None), NAMES.__getitem__) is None
    change = find_change(before, Pixels(np.zeros_like(before.semantic), None), NAMES.__getitem__)
    assert change is not None
    assert change.instances is None


@pytest.mark.parametrize("seed", range(60))
def test_any_labels_become_any_others(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def some() -> Pixels:
        blocks = rng.integers(0, 4, (4, 5)).repeat(2, axis=0).repeat(2, axis=1)
        classes = rng.choice([0, 1, 2, 3, VOID], 4)
        semantic = np.where(rng.random(blocks.shape) < 0.1, 1, classes[blocks])
        owned = (semantic != 0) & (semantic != VOID) & (rng.random(blocks.shape) < 0.9)
        return Pixels(semantic, np.where(owned, blocks + 1, 0))

    check(some(), some())
