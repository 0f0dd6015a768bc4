"""Augmentation moves image and labels together, and pads with what nobody learns from."""

import cv2
import numpy as np
import pytest
from PIL import Image

from tasks.training.augment import flip_and_crop, photometric, resize, scale_for_long_side


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


def test_lines_do_not_vanish_when_an_image_is_shrunk() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, ::4] = 255
    for scale in (0.25, 0.5, 0.64):
        small = resize(image, scale, cv2.INTER_CUBIC)
        assert abs(float(small.mean()) - image.mean()) < 4
    # Pillow's kernel widens too.
    smooth = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8), (0, 0), 2)
    ours = resize(smooth, 0.5, cv2.INTER_CUBIC).astype(float)
    theirs = np.asarray(Image.fromarray(smooth).resize((64, 48), Image.Resampling.BICUBIC), float)
    assert np.abs(ours - theirs).mean() < 2


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
@pytest.mark.parametrize("scale", [0.25, 0.5, 0.64, 1.3, 2.0])
def test_labels_lie_over_their_image_at_any_size(dtype: type, scale: float) -> None:
    labels = np.arange(60 * 80, dtype=dtype).reshape(60, 80) % 250
    small = resize(labels, scale, cv2.INTER_NEAREST)
    assert small.dtype == dtype
    rows, columns = (
        np.floor((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(small.shape, (60, 80), strict=True)
    )
    assert (small == labels[np.ix_(rows, columns)]).mean() > 0.9
    # A square in the middle stays in the middle.
    square = np.zeros((60, 80), dtype)
    square[20:40, 30:50] = 1
    y, x = (axis.mean() for axis in np.nonzero(resize(square, scale, cv2.INTER_NEAREST)))
    height, width = resize(square, scale, cv2.INTER_NEAREST).shape
    assert y == pytest.approx((height - 1) / 2, abs=0.5)
    assert x == pytest.approx((width - 1) / 2, abs=0.5)
