"""Images are worked on at a size that networks and radii know, and labels come back at the image's own."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.training.working_size import file_working_size, read_working_image, to_size, working_size


@pytest.mark.parametrize(
    ("size", "expected"),
    [((3000, 4000), (480, 640)), ((64, 64), (320, 320)), ((375, 500), (375, 500)), ((1, 10000), (1, 640))],
)
def test_the_long_side_is_brought_into_the_range(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert working_size(size, (320, 640)) == expected
    assert working_size(size, None) == size


def test_an_image_is_shrunk_by_means_and_its_size_is_known_from_the_header(tmp_path: Path) -> None:
    stripes = np.tile(np.uint8([[0, 255]]), (100, 400)).repeat(3).reshape(100, 800, 3)
    Image.fromarray(stripes).save(tmp_path / "a.png")
    image = read_working_image(tmp_path / "a.png", (320, 400))
    assert image.shape == (50, 400, 3)
    assert np.abs(image.astype(int) - 127).max() <= 1
    assert file_working_size(tmp_path / "a.png", (320, 400)) == (50, 400)


def test_labels_keep_their_values_and_shape_at_another_size() -> None:
    labels = np.zeros((60, 80), np.uint8)
    labels[20:40, 30:60], labels[:, 70:] = 7, 255
    large = to_size(labels, (600, 800))
    assert large.dtype == np.uint8
    assert set(np.unique(large)) == {0, 7, 255}
    assert np.abs((large == 7).mean() - (labels == 7).mean()) < 0.002
    assert (to_size(large, (60, 80)) != labels).mean() < 0.01
    np.testing.assert_array_equal(to_size(labels, (60, 80)), labels)
