"""Every pixel format, orientation and size is read; everything damaged is named."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from data.dataset import DatasetError
from data.formats.images import image_orientation, image_size, orient, read_image

COLOURS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def test_colours_are_read_as_stored(tmp_path: Path) -> None:
    read = read_image(save(tmp_path / "a.png", Image.fromarray(COLOURS)))
    assert read.dtype == np.uint8
    assert read.flags.c_contiguous
    np.testing.assert_array_equal(read, COLOURS)


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_grey_becomes_three_equal_channels(tmp_path: Path, mode: str) -> None:
    grey = Image.fromarray(COLOURS).convert("L").convert(mode)
    expected = np.asarray(grey.convert("L"))
    read = read_image(save(tmp_path / "a.png", grey))
    np.testing.assert_array_equal(read, np.repeat(expected[..., None], 3, axis=2))


def test_alpha_is_dropped_and_the_colours_under_it_stay(tmp_path: Path) -> None:
    image = Image.fromarray(np.dstack([COLOURS, COLOURS[..., 0]]))
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", image)), COLOURS)


@pytest.mark.parametrize("options", [{}, {"transparency": 3}], ids=["opaque", "transparent"])
def test_palette_images_become_their_colours(tmp_path: Path, options: dict[str, int]) -> None:
    image = Image.fromarray(COLOURS).quantize(16)
    read = read_image(save(tmp_path / "a.png", image, **options))
    np.testing.assert_array_equal(read, np.asarray(image.convert("RGB")))


def test_cmyk_photographs_keep_their_colours(tmp_path: Path) -> None:
    red = Image.new("RGB", (48, 32), (200, 30, 40)).convert("CMYK")
    read = read_image(save(tmp_path / "a.jpg", red, quality=95))
    assert read.shape == (32, 48, 3)
    np.testing.assert_allclose(read[16, 24], (200, 30, 40), atol=6)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    grey = np.linspace(0, 65535, 40 * 60).astype(np.uint16).reshape(40, 60)
    read = read_image(save(tmp_path / f"a.{suffix}", Image.fromarray(grey)))
    np.testing.assert_array_equal(read[..., 1], grey // 256)


def test_32_bit_integers_in_the_16_bit_range_count_as_16_bit(tmp_path: Path) -> None:
    grey = np.linspace(0, 65535, 40 * 60).astype(np.int32).reshape(40, 60)
    read = read_image(save(tmp_path / "a.tif", Image.fromarray(grey)))
    np.testing.assert_array_equal(read[..., 0], grey // 256)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_without_a_known_range_are_refused(tmp_path: Path, dtype: type) -> None:
    path = save(tmp_path / "a.tif", Image.fromarray(np.full((40, 60), 70000, dtype)))
    with pytest.raises(DatasetError, match=r"a\.tif: expected an image of 8 or 16 bits a channel"):
        read_image(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orient_agrees_with_pil(orientation: int) -> None:
    image = Image.fromarray(COLOURS)
    image.getexif()[0x0112] = orientation
    np.testing.assert_array_equal(orient(COLOURS, orientation), np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_read_upright_and_measured_so(tmp_path: Path, suffix: str, orientation: int) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(COLOURS), exif=exif(orientation), **options)
    np.testing.assert_array_equal(read_image(path), orient(COLOURS, orientation))
    assert image_size(path) == read_image(path).shape[:2]


def test_a_jpeg_on_its_side_is_turned(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", Image.fromarray(COLOURS), exif=exif(6))
    assert image_orientation(path) == 6
    assert image_size(path) == read_image(path).shape[:2] == (60, 40)


def test_an_orientation_that_does_not_exist_is_ignored(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(COLOURS), exif=exif(77))
    np.testing.assert_array_equal(read_image(path), COLOURS)


def test_sizes_are_told_from_the_header_alone(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(COLOURS))
    path.write_bytes(path.read_bytes()[:60])
    assert image_size(path) == (40, 60)


@pytest.mark.parametrize("size", [(1, 1), (7, 31), (6100, 8), (16000, 12000)])
def test_tiny_and_huge_images_work(tmp_path: Path, size: tuple[int, int]) -> None:
    path = save(tmp_path / "a.png", Image.new("1", size))
    assert image_size(path) == size[::-1]
    if max(size) < 10000:
        assert read_image(path).shape == (*size[::-1], 3)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "bmp"])
def test_a_truncated_image_is_named(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(COLOURS))
    content = path.read_bytes()
    for length in (1, 20, len(content) // 2, len(content) * 3 // 4):
        path.write_bytes(content[:length])
        with pytest.raises(DatasetError, match=rf"a\.{suffix}: expected an image, found") as caught:
            read_image(path)
        assert caught.value.problems[0].file == path


@pytest.mark.parametrize("read", [read_image, image_size, image_orientation])
def test_empty_missing_and_other_files_are_named(tmp_path: Path, read: Callable[[Path], object]) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not an image at all, but long enough to look into")
    for name, found in (("empty.jpg", "an empty file"), ("text.jpg", "another kind of file"), ("gone.jpg", "no file")):
        with pytest.raises(DatasetError, match=rf"{name}: expected an image, found {found}"):
            read(tmp_path / name)
