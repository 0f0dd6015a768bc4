"""Augmentation moves image and labels together, and pads with what nobody learns from."""

import cv2
import numpy as np
import pytest

from tasks.augment import flip_and_crop, photometric, resize, scale_for_long_side


@pytest.mark.parametrize("shape", [(20, 30), (50, 40), (20, 60), (32, 32)])
def test_image_and_labels_are_cut_alike_and_the_rest_is_ignored(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(1, 200, shape).astype(np.uint8)
    image = np.repeat(labels[..., None], 3, axis=2).astype(np.float32)
    for seed in range(8):
        crop, label_crop = flip_and_crop(image, labels, 32, np.random.default_rng(seed))
        assert crop.shape == (32, 32, 3)
        inside = label_crop != 255
        assert inside.sum() == min(32, shape[0]) * min(32, shape[1])
        assert (crop[inside] == label_crop[inside][:, None]).all()
        assert (crop[~inside] == 0).all()


def test_flips_and_places_vary_with_the_generator_and_repeat_with_the_seed() -> None:
    image = np.random.default_rng(0).random((40, 40, 3))
    crops = [flip_and_crop(image, None, 16, np.random.default_rng(seed))[0] for seed in (1, 2, 1)]
    assert not np.array_equal(crops[0], crops[1])
    assert np.array_equal(crops[0], crops[2])


def test_the_long_side_lands_in_the_range() -> None:
    image = np.zeros((30, 90, 3), np.uint8)
    for seed in range(5):
        scale = scale_for_long_side(image, (45, 60), np.random.default_rng(seed))
        assert 45 <= resize(image, scale, cv2.INTER_CUBIC).shape[1] <= 60


def test_photometric_strength_zero_changes_nothing_and_more_changes_colours() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    assert photometric(image, 0, np.random.default_rng(0)) is image
    changed = photometric(image, 0.5, np.random.default_rng(0))
    assert changed.dtype == np.uint8
    assert not np.array_equal(changed, image)
