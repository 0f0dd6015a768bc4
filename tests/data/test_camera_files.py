"""Photographs as cameras and telephones write them: 10, 12, 14 and 16 bits a channel, floating point, HEIC."""

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data.dataset import DatasetError
from data.formats.image_depth import used_bits
from data.formats.images import read_image, read_photo, reads_heif
from data.readers import open_dataset
from data.validation import examine_images

COLOURS = np.random.default_rng(0).random((40, 60, 3))


def values_of(bits: int, channels: int = 3) -> np.ndarray:
    """Return values of so many bits [H, W, C] in which the highest occurs."""
    values = (COLOURS[..., :channels] * (2**bits - 1)).round().astype(np.uint16)
    values[0, 0] = 2**bits - 1
    return values


def with_chunk(file: Path, kind: bytes, content: bytes) -> None:
    """Put a chunk behind the header of a PNG."""
    png = file.read_bytes()
    chunk = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    file.write_bytes(png[:33] + chunk + png[33:])


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_colours_of_every_depth_keep_their_upper_eight_bits(tmp_path: Path, bits: int, suffix: str) -> None:
    values = values_of(bits)
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), values[..., ::-1])
    pixels, found, _ = read_photo(tmp_path / f"a.{suffix}")
    assert found == bits
    np.testing.assert_array_equal(pixels, values >> (bits - 8))


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_colours_beside_an_alpha_channel_of_16_bits_are_scaled_by_their_own_depth(tmp_path: Path, bits: int) -> None:
    values = values_of(bits)
    opaque = np.full((40, 60, 1), 65535, np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), np.concatenate([values[..., ::-1], opaque], axis=2))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), values >> (bits - 8))


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_a_dark_photograph_is_scaled_by_the_depth_that_its_file_declares(tmp_path: Path, bits: int) -> None:
    dark = values_of(9, 1)[..., 0]
    Image.fromarray(dark).save(tmp_path / "a.png")
    assert read_photo(tmp_path / "a.png").bits == 10
    with_chunk(tmp_path / "a.png", b"sBIT", bytes([bits]))
    Image.fromarray(dark).save(tmp_path / "a.tif", tiffinfo={281: 2**bits - 1})
    for name in ("a.png", "a.tif"):
        pixels, found, _ = read_photo(tmp_path / name)
        assert found == bits
        np.testing.assert_array_equal(pixels[..., 0], dark >> (bits - 8))


def test_a_depth_that_the_values_exceed_is_not_believed(tmp_path: Path) -> None:
    Image.fromarray(values_of(14, 1)[..., 0]).save(tmp_path / "a.png")
    with_chunk(tmp_path / "a.png", b"sBIT", b"\x0a")
    with Image.open(tmp_path / "a.png") as image:
        assert used_bits(image, 2**14 - 1) == 14
        assert used_bits(image, 2**10 - 1) == 10


def test_a_chunk_that_is_cut_off_declares_nothing(tmp_path: Path) -> None:
    header = b"\x89PNG\r\n\x1a\n"
    Image.fromarray(values_of(12, 1)[..., 0]).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        for tail in (b"", b"\0\0\0\1sBIT", b"\0\0\0\0sBIT", b"\xff\xff\xff\xffsBIT"):
            (tmp_path / "a.png").write_bytes(header + tail)
            assert used_bits(image, 4095) == 12


def test_floating_point_from_0_to_1_is_scaled_and_other_ranges_are_refused(tmp_path: Path) -> None:
    grey = COLOURS[..., 0].astype(np.float32)
    Image.fromarray(grey).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[..., 2], (grey * 255).round().astype(np.uint8))
    for value in (-0.1, 1.5, np.nan):
        grey[0, 0] = value
        Image.fromarray(grey).save(tmp_path / "a.tif")
        with pytest.raises(DatasetError, match="8 or 16 bits a channel, or of values from 0 to 1, found float32"):
            read_image(tmp_path / "a.tif")


def test_doctor_tells_of_photographs_that_were_taken_for_those_of_several_cameras(tmp_path: Path) -> None:
    for name, bits in (("a", 12), ("b", 10)):
        Image.fromarray(values_of(bits, 1)[..., 0]).save(tmp_path / f"{name}.png")
    Image.new("RGB", (60, 40), (9, 200, 9)).save(tmp_path / "c.png")
    (tmp_path / "labels.csv").write_text("a,cat\nb,dog\nc,dog\n")
    dataset, _ = open_dataset(tmp_path)
    problems, doubts = examine_images(dataset, 1)
    assert not problems
    (told,) = doubts
    assert told.endswith("each scaled by its own: 10 bits: b; 12 bits: a")
    with_chunk(tmp_path / "b.png", b"sBIT", b"\x0c")
    assert examine_images(dataset, 1) == ([], [])


@pytest.mark.skipif(reads_heif(), reason="pillow-heif is installed")
def test_heic_without_its_package_is_refused_with_the_name_of_the_package(tmp_path: Path) -> None:
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    for name in ("a.heic", "b.jpg"):
        (tmp_path / name).write_bytes(heic)
    with pytest.raises(DatasetError, match=r"b\.jpg: expected an image, found HEIC: .*install pillow-heif"):
        read_image(tmp_path / "b.jpg")
    (tmp_path / "labels.csv").write_text("a,cat\nb,dog\n")
    with pytest.raises(DatasetError, match=r"a\.heic: expected a photograph .*found \.heic: .*install pillow-heif"):
        open_dataset(tmp_path)


def test_heic_is_read_where_its_package_is_installed(tmp_path: Path) -> None:
    package = tmp_path / "packages/pillow_heif"
    package.mkdir(parents=True)
    # In place of the package: an opener that takes the rest of the file for a PNG.
    (package / "__init__.py").write_text(
        "from io import BytesIO\nfrom PIL import Image, ImageFile\n\n"
        "class Heif(ImageFile.ImageFile):\n    format = 'HEIF'\n\n    def _open(self):\n"
        "        self.fp.seek(12)\n        self.inner = Image.open(BytesIO(self.fp.read()))\n"
        "        self._size, self._mode = self.inner.size, self.inner.mode\n\n"
        "    def load(self):\n        self.im = self.inner.convert('RGB').im\n        return Image.Image.load(self)\n\n"
        "def register_heif_opener():\n"
        "    Image.register_open('HEIF', Heif, lambda begin: begin[4:12] == b'ftypheic')\n"
    )
    data = tmp_path / "set"
    data.mkdir()
    Image.new("RGB", (60, 40), (9, 200, 9)).save(data / "x.png")
    for name in ("a.HEIC", "b.heif", "c.jpg"):
        (data / name).write_bytes(b"\0\0\0\x18ftypheic" + (data / "x.png").read_bytes())
    (data / "x.png").unlink()
    (data / "labels.csv").write_text("a,cat\nb.heif,dog\nc,dog\n")
    code = (
        "import sys; from pathlib import Path;"
        "from data.formats.images import read_image; from data.readers import open_dataset;"
        "samples = open_dataset(Path(sys.argv[1]))[0].samples;"
        "print([(s.id, s.labels, read_image(s.image)[0, 0].tolist()) for s in samples])"
    )
    path = os.pathsep.join([str(package.parent), *filter(None, sys.path)])
    answer = subprocess.run(
        [sys.executable, "-c", code, data],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    green = [9, 200, 9]
    assert answer.stdout.strip() == str([("a", (0,), green), ("b", (1,), green), ("c", (1,), green)])
